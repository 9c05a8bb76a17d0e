"""The network itself: what a reader of the paper wants to see alone."""
