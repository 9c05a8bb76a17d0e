"""From a file to frames: containers, packets, plans, decoding."""
