"""Name each clip that comes into a folder: `python examples/watch_folder.py FOLDER http://127.0.0.1:8000`.

Ends when a file named `stop` comes. A clip should come whole: written elsewhere, then moved here.
"""

import sys
import time
from pathlib import Path

from xclip_serve import ClassifyError, Client

LABELS = ["a red circle moving left", "a red circle moving right", "a blue square growing"]


def main(folder: str, url: str) -> None:
    """Ask the server about every clip once."""
    known: set[Path] = set()
    with Client(url) as server:
        while True:
            stop = (Path(folder) / "stop").exists()
            for clip in sorted(set(Path(folder).glob("*.mp4")) - known):
                known.add(clip)
                try:
                    best = server.classify(clip, LABELS).predictions[0]
                    print(f"{clip.name}\t{best.label}\t{best.score:.3f}", flush=True)
                except ClassifyError as error:
                    print(f"{clip.name}\t{error.code}: {error.detail}", flush=True)
            if stop:
                return
            time.sleep(1)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
