"""One command that checks and measures everything on an NVIDIA GPU; see `__main__`."""
