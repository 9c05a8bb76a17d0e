"""From networks and a list of clips to their comparison. M networks, N clips, K labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.config import DataConfig
from model.data.frames.reading import Broken
from model.data.lists.cliplist import ClipList
from model.evaluate.comparison.answers import Answers, Contender, Facts, answers_of, facts_of
from model.evaluate.comparison.figures import (
    agreement,
    macro_accuracy,
    mcnemar,
    right_in_top,
    wilson_interval,
)
from model.evaluate.comparison.frames import KeptFrames
from model.evaluate.errors import EvaluateError
from model.evaluate.scores import Scores
from model.progress import Steps, progress

PAIRS = 5  # mistakes that are named of each network
CHANCE = 0.05  # a difference less probable than this is taken for one


@dataclass(frozen=True)
class Share:
    """Clips that are right of those that were asked, and the interval of 95 % of their share."""

    right: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, right: NDArray[np.bool_]) -> Share:
        """Count."""
        count, total = int(right.sum()), len(right)
        return cls(count, count / total, *wilson_interval(count, total))


@dataclass(frozen=True)
class Judgement:
    """How right a network is: figures from 0 to 1, and its most frequent mistakes.

    `top5` is None where there are no more than five labels; `against_best` is the p of McNemar's
    test, None for the best itself; `confused` has (label, taken for, clips).
    """

    top1: Share
    top5: Share | None
    macro: float
    against_best: float | None
    confused: tuple[tuple[str, str, int], ...]

    @property
    def as_good_as_the_best(self) -> bool:
        """Whether the difference to the best may be chance."""
        return self.against_best is None or self.against_best >= CHANCE


@dataclass(frozen=True)
class Entry:
    """A network in the comparison; no judgement where the clips have no labels."""

    source: str
    facts: Facts
    answers: Answers
    judgement: Judgement | None = None

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The class of the highest score of each clip, (N,)."""
        return self.answers.scores.argmax(axis=1).astype(np.int64)


@dataclass(frozen=True)
class Comparison:
    """All networks, the best first where that is known. `indices` are the clips that were asked,
    of `clips`; the others are `broken`.
    """

    clips: ClipList
    indices: tuple[int, ...]
    broken: tuple[Broken, ...]
    entries: tuple[Entry, ...]

    @property
    def agreement(self) -> NDArray[np.float64]:
        """The share of clips that each two networks name alike, (M,M)."""
        return agreement(np.stack([entry.predicted for entry in self.entries]))


def compare(
    contenders: Sequence[Contender],
    clips: ClipList,
    kept: KeptFrames,
    data: DataConfig,
    steps: Steps,
    *,
    labelled: bool = True,
) -> Comparison:
    """Ask every network about every clip.

    Args:
        contenders: The networks; each is loaded in a process of its own.
        clips: The list with its K labels.
        kept: Where decoded frames are kept.
        data: Decoding processes.
        steps: Where progress is shown.
        labelled: Whether the list says what the clips show.

    Raises:
        EvaluateError: A network cannot be loaded or answer, or no clip can be decoded.
        DataError: The frames cannot be kept.
    """
    # All are loaded once before anything is decoded: a mistake is told before the long work.
    facts = []
    for contender in contenders:
        with steps.step(f"Loading {contender.source}"):
            facts.append(facts_of(contender))
    with progress("decoding", len(clips)) as on_clip:
        broken = kept.keep([each.inputs for each in facts], data, on_clip)
    indices = tuple(index for index in range(len(clips)) if index not in broken)
    if not indices:
        first = next(iter(broken.values()))
        raise EvaluateError(f"no clip can be decoded; the first is {first.name} ({first.reason})")
    entries = []
    for contender, fact in zip(contenders, facts, strict=True):
        with steps.step(f"Asking {fact.name} about {len(indices)} clips"):
            answers = answers_of(contender, kept, indices, clips.labels.names)
        entries.append(Entry(contender.source, fact, answers))
    ranked = judged(entries, clips, indices) if labelled else tuple(entries)
    return Comparison(clips, indices, tuple(broken.values()), ranked)


def judged(entries: Sequence[Entry], clips: ClipList, indices: Sequence[int]) -> tuple[Entry, ...]:
    """Judge the answers by the labels of the list; the best first."""
    truth = np.array([clips.samples[index].label for index in indices], dtype=np.int64)
    places = np.array(indices, dtype=np.int64)
    every = [(entry, Scores(places, entry.answers.scores, truth)) for entry in entries]
    every.sort(key=lambda pair: (pair[1].top(1), macro_accuracy(pair[1])), reverse=True)
    best = right_in_top(every[0][1], 1)
    names = clips.labels.names
    ranked = []
    for place, (entry, scores) in enumerate(every):
        right = right_in_top(scores, 1)
        judgement = Judgement(
            Share.of(right),
            Share.of(right_in_top(scores, 5)) if len(names) > 5 else None,
            macro_accuracy(scores),
            mcnemar(best, right) if place else None,
            tuple((names[i], names[j], n) for i, j, n in scores.most_confused(PAIRS)),
        )
        ranked.append(Entry(entry.source, entry.facts, entry.answers, judgement))
    return tuple(ranked)
