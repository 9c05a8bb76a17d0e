"""Find what is wrong with a set of clips before a run does."""
