"""From clips with known labels to probabilities that hold: fit, measured by cross-validation."""
