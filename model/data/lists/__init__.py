"""Which clips there are and what they show: tables, folders, shards."""
