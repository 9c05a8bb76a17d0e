"""Look at a set before days are spent on it: every clip opened, every label tokenised."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch.utils.data import Dataset

from model.data.check.label_words import not_words
from model.data.config import DataConfig
from model.data.frames.loading import in_workers
from model.data.frames.reading import why
from model.data.lists.cliplist import ClipList
from model.data.lists.content import fingerprint, whole_digest
from model.data.lists.missing import MissingClip
from model.inputs import (
    InputSpec,
    LabelTooLong,
    Tokenizer,
    VideoError,
    decode_clip,
    decode_uncropped,
)

Groups = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Look:
    """What one clip turned out to be: its frames and content; or why it cannot be used."""

    name: str
    frames: int = 0
    content: str = ""
    reason: str | None = None
    missing: bool = False


@dataclass(frozen=True)
class Findings:
    """What is to be known of a set. Clips are named as the list names them, labels by name."""

    clips: int
    labels: int
    missing: tuple[str, ...]
    hints: dict[str, str]
    broken: dict[str, str]
    too_short: dict[str, int]
    repeated: tuple[str, ...]
    contradicting: tuple[str, ...]
    also_in_val: tuple[str, ...]
    copies: Groups
    copies_with_other_labels: Groups
    copies_in_val: Groups
    empty_labels: tuple[str, ...]
    per_label: dict[str, int]
    alike: Groups
    too_long: tuple[str, ...]
    not_words: dict[str, str]

    @property
    def serious(self) -> bool:
        """Whether something is wrong, rather than worth knowing."""
        wrong = (self.missing, self.broken, self.contradicting, self.also_in_val)
        copies = (self.copies_with_other_labels, self.copies_in_val)
        return any((*wrong, *copies, self.alike, self.too_long))

    def as_json(self) -> dict[str, Any]:
        """Return the findings for other programs."""
        return asdict(self)

    def balance(self) -> str:
        """Describe the smallest label, the middle, the largest."""
        counts = self.per_label
        least, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
        middle = statistics.median(counts.values())
        return f"{counts[least]} ({least}) to {counts[most]} ({most}) clips each, median {middle:g}"


class _Looks(Dataset[Look]):
    """Opens clips as a run does: to train on, whole pictures; to measure on, crops."""

    def __init__(self, clips: ClipList, spec: InputSpec, *, to_train: bool) -> None:
        self.clips, self.spec, self.to_train = clips, spec, to_train

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Look:
        name = self.clips.samples[index].name
        try:
            with self.clips.files.open(name) as stream:
                content = fingerprint(stream)
                stream.seek(0)
                if self.to_train:
                    clip = decode_uncropped(stream, self.spec, sampling="test")
                else:
                    clip = decode_clip(stream, self.spec)
        except MissingClip as error:
            return Look(name, reason=error.hint, missing=True)
        except (VideoError, OSError) as error:
            return Look(name, reason=why(error))
        return Look(name, clip.info.frames, content)


def check(
    clips: ClipList,
    val: ClipList | None,
    spec: InputSpec,
    tokenizer: Tokenizer,
    config: DataConfig,
    on_clip: Callable[[], None],
) -> Findings:
    """Open every clip of both sets as a run would, and compare the labels' tokens.

    Classes, their balance and repetitions are those of `clips`.

    Args:
        clips: the set to train on.
        val: the set that accuracy is measured on.
        spec: frames and picture size that the clips are decoded for.
        tokenizer: reads the labels.
        config: how many workers decode.
        on_clip: called after each clip.
    """
    looks = _looked_at(clips, spec, config, on_clip, to_train=True)
    others = _looked_at(val, spec, config, on_clip, to_train=False) if val else []
    both = [*looks, *others]
    repeated, contradicting = _repeated(clips)
    same, with_other_labels = _copies(clips, looks)
    alike, too_long = _alike(clips.labels.texts, tokenizer, spec)
    counts = dict(zip(clips.labels.names, clips.per_class(), strict=True))
    return Findings(
        clips=len(clips),
        labels=len(clips.labels),
        missing=tuple(look.name for look in both if look.missing),
        hints={look.name: look.reason for look in both if look.missing and look.reason},
        broken={look.name: look.reason for look in both if look.reason and not look.missing},
        too_short={
            look.name: look.frames
            for look in both
            if look.reason is None and look.frames < spec.num_frames
        },
        repeated=repeated,
        contradicting=contradicting,
        also_in_val=_shared(clips, val),
        copies=same,
        copies_with_other_labels=with_other_labels,
        copies_in_val=_copies_in_val(clips, looks, val, others) if val else (),
        empty_labels=tuple(label for label, count in counts.items() if not count),
        per_label=counts,
        alike=alike,
        too_long=too_long,
        not_words=not_words(clips.labels.texts),
    )


def _looked_at(
    clips: ClipList,
    spec: InputSpec,
    config: DataConfig,
    on_clip: Callable[[], None],
    *,
    to_train: bool,
) -> list[Look]:
    looks = []
    for look in in_workers(_Looks(clips, spec, to_train=to_train), config):
        looks.append(look)
        on_clip()
    return looks


def _copies(clips: ClipList, looks: Sequence[Look]) -> tuple[Groups, Groups]:
    """Group clips of other names and the same bytes: those of one label, those of several."""
    labels: defaultdict[str, set[int]] = defaultdict(set)
    for sample in clips.samples:
        labels[sample.name].add(sample.label)
    groups = _same_bytes(looks, [clips] * len(looks))
    several = [len(set.union(*(labels[name] for name in group))) > 1 for group in groups]
    return (
        tuple(group for group, other in zip(groups, several, strict=True) if not other),
        tuple(group for group, other in zip(groups, several, strict=True) if other),
    )


def _copies_in_val(
    clips: ClipList, looks: Sequence[Look], val: ClipList, others: Sequence[Look]
) -> Groups:
    """Group clips of both sets that have the same bytes and are called differently."""
    training = {sample.name for sample in clips.samples}
    measured = {sample.name for sample in val.samples}
    groups = _same_bytes([*looks, *others], [clips] * len(looks) + [val] * len(others))
    return tuple(g for g in groups if training.intersection(g) and measured.intersection(g))


def _same_bytes(looks: Sequence[Look], lists: Sequence[ClipList]) -> Groups:
    """Group the names of equal clips; fingerprints that agree are confirmed by all bytes."""
    by_content: defaultdict[str, dict[str, ClipList]] = defaultdict(dict)
    for look, clips in zip(looks, lists, strict=True):
        if look.content:
            by_content[look.content][look.name] = clips
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for named in by_content.values():
        for name, clips in named.items() if len(named) > 1 else ():
            with clips.files.open(name) as stream:
                groups[whole_digest(stream)].append(name)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def _repeated(clips: ClipList) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name clips that are listed twice, and those of them with different labels."""
    labels: defaultdict[str, list[int]] = defaultdict(list)
    for sample in clips.samples:
        labels[sample.name].append(sample.label)
    repeated = tuple(name for name, classes in labels.items() if len(classes) > 1)
    return repeated, tuple(name for name in repeated if len(set(labels[name])) > 1)


def _shared(clips: ClipList, val: ClipList | None) -> tuple[str, ...]:
    if val is None:
        return ()
    training = {sample.name for sample in clips.samples}
    return tuple(sample.name for sample in val.samples if sample.name in training)


def _alike(
    labels: Sequence[str], tokenizer: Tokenizer, spec: InputSpec
) -> tuple[Groups, tuple[str, ...]]:
    """Name labels that are the same to the network, and those it cannot read to their end."""
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
