"""Look at a set before days are spent on it: every clip opened, every label tokenised."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch.utils.data import DataLoader, Dataset

from model.data.config import DataConfig
from model.data.frames.loading import worker_options
from model.data.frames.reading import why
from model.data.lists.cliplist import ClipList
from model.inputs import InputSpec, LabelTooLong, Tokenizer, VideoError, decode_clip


@dataclass(frozen=True)
class Look:
    """What one clip turned out to be: its frames, or why it cannot be used."""

    name: str
    frames: int
    reason: str


@dataclass(frozen=True)
class Findings:
    """What is to be known of a set. Clips are named as the list names them, labels by name."""

    clips: int
    labels: int
    missing: tuple[str, ...]
    broken: dict[str, str]
    too_short: dict[str, int]
    repeated: tuple[str, ...]
    contradicting: tuple[str, ...]
    also_in_val: tuple[str, ...]
    empty_labels: tuple[str, ...]
    per_label: dict[str, int]
    alike: tuple[tuple[str, ...], ...]
    too_long: tuple[str, ...]

    @property
    def serious(self) -> bool:
        """Whether something is wrong, rather than worth knowing."""
        wrong = (self.missing, self.broken, self.contradicting, self.also_in_val)
        return any(wrong) or bool(self.alike or self.too_long)

    def as_json(self) -> dict[str, Any]:
        """For other programs."""
        return asdict(self)

    def balance(self) -> str:
        """The smallest label, the middle, the largest."""
        counts = self.per_label
        least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        middle = statistics.median(counts.values())
        return f"{counts[least]} ({least}) to {counts[most]} ({most}) clips each, median {middle:g}"


class _Looks(Dataset[Look]):
    def __init__(self, clips: ClipList, spec: InputSpec) -> None:
        self.clips, self.spec = clips, spec

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Look:
        name = self.clips.samples[index].name
        try:
            with self.clips.files.open(name) as stream:
                return Look(name, decode_clip(stream, self.spec).info.frames, "")
        except (VideoError, OSError) as error:
            return Look(name, 0, why(error))


def check(
    clips: ClipList,
    val: ClipList | None,
    spec: InputSpec,
    tokenizer: Tokenizer,
    config: DataConfig,
    on_clip: Callable[[], None],
) -> Findings:
    """Open every clip of both sets as an evaluation would, and compare the labels' tokens.

    Classes, their balance and repetitions are those of `clips`.
    """
    looks = [
        look for part in (clips, val) if part for look in _looked_at(part, spec, config, on_clip)
    ]
    repeated, contradicting = _repeated(clips)
    alike, too_long = _alike(clips.labels.names, tokenizer, spec)
    counts = dict(zip(clips.labels.names, clips.per_class(), strict=True))
    return Findings(
        clips=len(clips),
        labels=len(clips.labels),
        missing=tuple(look.name for look in looks if look.reason == "missing"),
        broken={
            look.name: look.reason
            for look in looks
            if look.reason not in ("", "missing")
        },
        too_short={
            look.name: look.frames
            for look in looks
            if not look.reason and look.frames < spec.num_frames
        },
        repeated=repeated,
        contradicting=contradicting,
        also_in_val=_shared(clips, val),
        empty_labels=tuple(label for label, count in counts.items() if not count),
        per_label=counts,
        alike=alike,
        too_long=too_long,
    )  # fmt: skip


def _looked_at(
    clips: ClipList, spec: InputSpec, config: DataConfig, on_clip: Callable[[], None]
) -> Iterator[Look]:
    loader: DataLoader[Any] = DataLoader(
        _Looks(clips, spec),
        batch_size=None,
        **worker_options(config),
    )
    for look in loader:
        yield look
        on_clip()


def _repeated(clips: ClipList) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Clips that are listed twice; those of them with different labels."""
    labels: defaultdict[str, list[int]] = defaultdict(list)
    for sample in clips.samples:
        labels[sample.name].append(sample.label)
    repeated = tuple(name for name, found in labels.items() if len(found) > 1)
    return repeated, tuple(name for name in repeated if len(set(labels[name])) > 1)


def _shared(clips: ClipList, val: ClipList | None) -> tuple[str, ...]:
    if val is None:
        return ()
    training = {sample.name for sample in clips.samples}
    return tuple(sample.name for sample in val.samples if sample.name in training)


def _alike(
    labels: Sequence[str], tokenizer: Tokenizer, spec: InputSpec
) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """Labels that are the same to the network, and labels that it cannot read to their end."""
    groups: defaultdict[tuple[int, ...], list[str]] = defaultdict(list)
    too_long = []
    for label in labels:
        try:
            ids = tokenizer.encode([label], spec.context_length, spec.pad_id)
        except LabelTooLong:
            too_long.append(label)
            continue
        groups[tuple(ids[0].tolist())].append(label)
    alike = tuple(tuple(group) for group in groups.values() if len(group) > 1)
    return alike, tuple(too_long)
