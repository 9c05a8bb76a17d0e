"""Fine-tuning by the published recipes: `python -m model.train --config FILE`."""
