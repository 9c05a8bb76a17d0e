"""What was computed before: clip features and label vectors, in this process."""
