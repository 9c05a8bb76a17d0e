"""The HTTP service: a clip and labels in, ranked labels out. Loads no torch."""
