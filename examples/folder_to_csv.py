"""Name what the clips of a folder show: `python examples/folder_to_csv.py FOLDER out.csv`.

For tens of thousands of clips, `xclip-serve batch` does this and goes on where it was stopped.
"""

import csv
import sys
from pathlib import Path

from xclip_serve import Classifier, ClassifyError

LABELS = ["a red circle moving left", "a red circle moving right", "a blue square growing"]


def main(folder: str, output: str) -> None:
    """Classify every mp4 of the folder in this process."""
    clips = sorted(Path(folder).glob("*.mp4"))
    with Classifier() as network, open(output, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["clip", "label", "score", "error"])
        for clip, answer in network.classify_many(clips, LABELS, top_k=1):
            if isinstance(answer, ClassifyError):
                table.writerow([clip, "", "", answer.detail])
            else:
                best = answer.predictions[0]
                table.writerow([clip, best.label, best.score, ""])


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
