"""From clips to a bundle: what `xclip-serve train` decides, and the steps that it takes."""
