"""Ask a bundle about the clips of a list, and of a folder that shows none of its labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.data.lists.cliplist import read_clips
from model.data.lists.labels import LabelList
from service.inference.rivals import Rivals, nearest_rivals, rivals_together
from xclip_serve.calibration.evidence import Evidence
from xclip_serve.classifier import Classifier
from xclip_serve.errors import ClassifyError


@dataclass(frozen=True)
class KnownClips:
    """Clips and the labels that are true of each; a clip may stand in several rows of a list.

    Attributes:
        labels: K names.
        truth: The indices of the true labels by path.
    """

    labels: tuple[str, ...]
    truth: Mapping[str, frozenset[int]]

    @property
    def singles(self) -> int:
        """How many clips have exactly one label."""
        return sum(len(labels) == 1 for labels in self.truth.values())


def read_known(list_file: Path, root: Path | None, labels: LabelList | None) -> KnownClips:
    """Read a list of clips; its paths start from `root`, or from the folder of the list.

    Raises:
        DataError: Names the row that cannot be used.
    """
    folder = list_file.parent if root is None else root
    clips = read_clips([list_file], folder, labels)
    truth: dict[str, frozenset[int]] = {}
    for sample in clips.samples:
        path = str(folder / sample.name)
        truth[path] = truth.get(path, frozenset()) | {sample.label}
    return KnownClips(clips.labels.names, truth)


def gather(
    classifier: Classifier,
    labels: Sequence[str],
    truth: Mapping[str, Iterable[int]],
    advance: Callable[[], object],
) -> tuple[Evidence, dict[str, ClassifyError]]:
    """Return what the network gives for clips, and the problems of those it gives nothing for.

    Args:
        classifier: The bundle.
        labels: K names.
        truth: By path, the indices of the labels that are true; none for an unknown clip.
        advance: Called after each clip.
    """
    rows, failed = {}, {}
    rivals: Rivals | None = None
    for path, answer in classifier.score_many(truth, labels):
        advance()
        if isinstance(answer, ClassifyError):
            failed[path] = answer
            continue
        assert answer.negatives is not None
        if rivals is None:  # the labels of all questions are the same
            rivals = nearest_rivals(answer.candidates)
        rows[path] = (answer.logits[0], answer.negatives[0])
    used = [path for path in truth if path in rows]  # in the order of the list
    flags = np.zeros((len(used), len(labels)), np.bool_)
    for row, path in enumerate(used):
        flags[row, list(truth[path])] = True
    logits = np.array([rows[path][0] for path in used], np.float64).reshape(-1, len(labels))
    negatives = np.array([rows[path][1] for path in used], np.float64)
    together = logits if rivals is None else rivals_together(logits, rivals)
    return Evidence(logits, negatives, flags, together), failed
