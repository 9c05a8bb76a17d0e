"""Sets of clips: lists, labels, where the files lie, what training draws from them."""
