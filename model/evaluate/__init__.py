"""Accuracy of a network or a bundle by the paper's protocols: `python -m model.evaluate`."""
