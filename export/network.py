"""A checkpoint as the exporter needs it: the network, its tokenizer, what it is called."""
