"""From listed clips to batches of frames: reading, augmentation, order, cache."""
