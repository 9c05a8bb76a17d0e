"""The paper's protocols: what is measured, in how many views, and how parts are put together."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from model.data.lists.cliplist import ClipList
from model.evaluate.details import ClassResult, ClipResult, class_results, clip_results
from model.evaluate.paper import Protocol
from model.evaluate.scores import Scores

# views in time × crops in space; the official ones of the first are drawn at random, ours shifted
# evenly
VIEWS: dict[Protocol, tuple[int, int]] = {
    "supervised": (4, 3),
    "zero-shot": (1, 1),
    "few-shot": (1, 1),
    "base-to-novel": (1, 1),
}
Measure = Callable[[ClipList], Scores]


@dataclass(frozen=True)
class Part:
    """One list: the clips that were scored, those right at once, the figures in percent.

    Classes and clips one by one are in `per_class` and `per_clip`.
    """

    name: str
    labels: int
    clips: int
    broken: int
    right: int
    top1: float
    top5: float
    per_class: tuple[ClassResult, ...] = ()
    per_clip: tuple[ClipResult, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Result:
    """All parts and what the protocol makes of them, in percent."""

    protocol: Protocol
    parts: tuple[Part, ...]
    figures: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, object]:
        """Give the figures for a file, without the single clips."""
        parts = [asdict(replace(part, per_clip=())) for part in self.parts]
        for part in parts:
            del part["per_clip"]
        return {"protocol": self.protocol, "parts": parts, "figures": self.figures}


def part(name: str, clips: ClipList, scores: Scores) -> Part:
    """Count one list: every clip is scored or broken."""
    assert len(scores.truth) + len(scores.broken) == len(clips), "a clip was lost"
    return Part(
        name,
        len(clips.labels),
        len(scores.truth),
        len(scores.broken),
        int((scores.predicted == scores.truth).sum()),
        100 * scores.top(1),
        100 * scores.top(5),
        class_results(scores, clips.labels.names),
        clip_results(name, scores, clips),
    )


def single(protocol: Protocol, name: str, clips: ClipList, measure: Measure) -> Result:
    """Measure one list: fully supervised and few-shot."""
    result = part(name, clips, measure(clips))
    return Result(protocol, (result,), {"top1": result.top1, "top5": result.top5})


def zero_shot(splits: Sequence[tuple[str, ClipList]], measure: Measure) -> Result:
    """Measure mean and sample standard deviation of top-1 over the splits."""
    parts = tuple(part(name, clips, measure(clips)) for name, clips in splits)
    return Result("zero-shot", parts, mean_and_std([p.top1 for p in parts]))


def base_to_novel(
    base: ClipList, novel: ClipList, measures: Sequence[tuple[str, Measure]]
) -> Result:
    """Measure both halves, each among its own labels, for the networks of all seeds; means over
    seeds and the harmonic mean of these.
    """
    parts = []
    for name, measure in measures:
        parts.append(part(f"{name}, base", base, measure(base)))
        parts.append(part(f"{name}, novel", novel, measure(novel)))
    base_mean = statistics.fmean(p.top1 for p in parts[::2])
    novel_mean = statistics.fmean(p.top1 for p in parts[1::2])
    figures = {
        "base": base_mean,
        "novel": novel_mean,
        "harmonic": harmonic_mean(base_mean, novel_mean),
    }
    return Result("base-to-novel", tuple(parts), figures)


def mean_and_std(values: Sequence[float]) -> dict[str, float]:
    """Summarise the splits; a single one has no deviation."""
    figures = {"mean": statistics.fmean(values)}
    if len(values) > 1:
        figures["std"] = statistics.stdev(values)
    return figures


def harmonic_mean(base: float, novel: float) -> float:
    """Return 2BN / (B + N), 0 where both are."""
    return 2 * base * novel / (base + novel) if base + novel else 0.0
