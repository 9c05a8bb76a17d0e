"""Networks on the same clips, side by side: `python -m model.evaluate compare`."""
