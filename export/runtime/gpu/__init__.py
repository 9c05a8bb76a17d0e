"""Everything that runs on an NVIDIA card."""
