"""Clean label text and turn it into token ids."""
