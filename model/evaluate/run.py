"""Score every clip of a list exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.config import DataConfig
from model.data.errors import DataError
from model.data.frames.loading import evaluation_clips
from model.data.frames.reading import Broken, TestClip, TestClips
from model.data.lists.cliplist import ClipList
from model.evaluate.scorer import Scorer, label_vectors
from model.evaluate.scores import Scores, joined_scores
from model.processes import ALONE, Processes


@dataclass(frozen=True)
class Views:
    """How often a clip is looked at, and how many views go through the network together."""

    views: int = 1
    crops: int = 1
    batch: int = 8


def evaluate(
    scorer: Scorer,
    clips: ClipList,
    views: Views,
    data: DataConfig,
    processes: Processes = ALONE,
    on_clip: Callable[[], None] = lambda: None,
    read: TestClips | None = None,
) -> Scores:
    """Score every clip of a list exactly once.

    Args:
        scorer: A network or a bundle; its templates are what labels are filled into.
        clips: The list, with its K labels.
        views: How often each clip is looked at.
        data: Decoding processes, the frame rule, and the share of clips that may be broken.
        processes: Those that share the list; each scores its own part.
        on_clip: Called after each clip of this process.
        read: The clips by the test rule, where they do not come from their files.

    Returns:
        Scores of all N clips, the same on every process: float32 (N,K), the mean over views of
        the softmax over labels, from 0 to 1.

    Raises:
        DataError: More clips cannot be decoded than `data.max_broken_share` allows.
    """
    texts = label_vectors(scorer, clips.labels.texts)
    source = read or TestClips(
        clips, scorer.inputs, views.views, views.crops, frame_rule=data.frame_rule
    )
    mine = range(processes.rank, len(clips), processes.count)
    indices, rows, broken = [], [], []
    for together in _batches(evaluation_clips(source, mine, data), views.batch):
        whole = [clip for clip in together if clip.views is not None]
        broken += [clip.broken for clip in together if clip.broken is not None]
        _check_broken(broken, clips, data)
        if whole:
            rows.append(_mean_softmax(scorer, whole, views.batch, texts))
            indices += [clip.index for clip in whole]
        for _ in together:
            on_clip()
    mine_scored = _scores(clips, indices, rows, broken)
    scores = joined_scores(processes.collected(mine_scored))
    _check_broken(scores.broken, clips, data)
    return scores


def _check_broken(broken: Sequence[Broken], clips: ClipList, data: DataConfig) -> None:
    if len(broken) > data.max_broken_share * len(clips):
        raise DataError(
            f"{len(broken)} of {len(clips)} clips cannot be used, more than "
            f"{data.max_broken_share:.2%}; the last is {broken[-1].name} ({broken[-1].reason}): "
            "look at them with python -m model.data check"
        )


def _batches(clips: Iterator[TestClip], views: int) -> Iterator[list[TestClip]]:
    """Yield clips until they have that many views together."""
    together: list[TestClip] = []
    for clip in clips:
        together.append(clip)
        if sum(len(c.views) for c in together if c.views is not None) >= views:
            yield together
            together = []
    if together:
        yield together


def _mean_softmax(
    scorer: Scorer, clips: Sequence[TestClip], batch: int, texts: object
) -> NDArray[np.float32]:
    """Average over the views of each clip: (n,K)."""
    arrays = [clip.views for clip in clips if clip.views is not None]
    frames = np.concatenate(arrays)
    parts = range(0, len(frames), batch)
    logits = np.concatenate([scorer.logits(frames[i : i + batch], texts) for i in parts])
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    softmax = shifted / shifted.sum(axis=1, keepdims=True)
    ends = np.cumsum([len(array) for array in arrays])
    return np.stack([part.mean(axis=0) for part in np.split(softmax, ends[:-1])])


def _scores(
    clips: ClipList,
    indices: list[int],
    rows: list[NDArray[np.float32]],
    broken: Sequence[Broken],
) -> Scores:
    scores = np.concatenate(rows) if rows else np.empty((0, len(clips.labels)), np.float32)
    truth = np.array([clips.samples[index].label for index in indices], dtype=np.int64)
    return Scores(np.array(indices, dtype=np.int64), scores, truth, tuple(broken))
