"""What `xclip-serve` does itself; its other verbs are programs of `model`, `export`, `service`."""
