"""Find clips by text: `python examples/search_by_text.py INDEX "a red circle moving left"`.

INDEX is made once: xclip-serve batch FOLDER --embeddings --output index.jsonl

The nearest by cosine among all vectors are candidates; these few clips are then scored by the
network itself, in which the text attends to the clip.
"""

import json
import sys

import numpy as np

from xclip_serve import Classifier, ClassifyError

CANDIDATES = 20  # clips that are looked at again
SHOWN = 5


def read_index(file: str) -> tuple[list[str], np.ndarray]:
    """Return the paths of N clips, and their vectors, float32 (N,D)."""
    with open(file) as lines:
        rows = [row for row in map(json.loads, lines) if row["embedding"] is not None]
    return [row["path"] for row in rows], np.array([row["embedding"] for row in rows], np.float32)


def search(network: Classifier, index: str, text: str) -> list[tuple[float, str]]:
    """Return the logits of the best clips for a text, and their paths; the best first."""
    paths, vectors = read_index(index)
    cosines = vectors @ network.embed_texts([text])[0]
    nearest = [paths[i] for i in np.argsort(-cosines)[:CANDIDATES]]
    scored = [
        (answer.predictions[0].logit, clip)
        for clip, answer in network.classify_many(nearest, [text])
        if not isinstance(answer, ClassifyError)
    ]
    return sorted(scored, reverse=True)


def main(index: str, text: str) -> None:
    """Print the best clips."""
    with Classifier() as network:
        for logit, clip in search(network, index, text)[:SHOWN]:
            print(f"{logit:7.2f}  {clip}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
