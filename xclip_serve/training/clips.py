"""The clips of a training: found below a folder or in lists, looked at, and those left out said."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.data.check.label_words import not_words
from model.data.errors import DataError
from model.data.lists.cliplist import ClipList, Sample, open_files, read_clips
from model.data.lists.folders import LABELS, TEST, TRAIN, VAL, Split, split_folders, write_split
from model.data.lists.groups import STEM
from model.data.lists.holdout import Pairs, drawn
from model.data.lists.labels import LabelList, read_labels
from model.data.lists.names import is_clip, named
from model.inputs import label_key

if TYPE_CHECKING:
    from model.data.check.check import Findings

VAL_SHARE = 0.2
SEED = 0
ARCHIVES = {".tar", ".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"}


@dataclass(frozen=True)
class Source:
    """Where clips come from: one folder, or lists with the folder that their paths start from."""

    data: tuple[Path, ...]
    val: tuple[Path, ...] = ()
    root: Path | None = None
    labels: Path | None = None
    group_by: str = STEM


@dataclass(frozen=True)
class Clips:
    """Clips by part, with the folder that their paths start from and what is known of them."""

    root: Path
    split: Split

    def part(self, pairs: Pairs) -> ClipList:
        """Return a part as the list that training reads."""
        labels = self.split.labels
        classes = [labels.find(label) for _, label in pairs]
        samples = tuple(
            Sample(path, label, (label,))
            for (path, _), label in zip(pairs, classes, strict=True)
            if label is not None
        )
        return ClipList(samples, labels, labels.texts, open_files(self.root))


def found(source: Source) -> Clips:
    """Find the clips and their parts; DataError says what is wrong and what to do."""
    if len(source.data) == 1 and source.data[0].is_dir():
        if source.val or source.root or source.labels:
            raise DataError("--val, --root and --labels belong to lists; a folder has its own")
        root = source.data[0]
        split = split_folders(root, VAL_SHARE, SEED, source.group_by)
    else:
        root = source.root or Path()
        split = _of_lists(source, root)
    return Clips(root, _readable(split))


def _of_lists(source: Source, root: Path) -> Split:
    missing = [str(path) for path in (*source.data, *source.val) if not path.exists()]
    if missing:
        raise DataError(f"{named(missing)}: there is no such folder or list")
    packed = [str(p) for p in (*source.data, *source.val) if p.suffix.lower() in ARCHIVES]
    if packed:
        raise DataError(
            f"{named(packed)}: unpack it and give the folder, or a list beside --root FILE.tar; "
            "WebDataset shards go to python -m model.train --config FILE"
        )
    films = [str(path) for path in (*source.data, *source.val) if is_clip(path.name)]
    if films:
        raise DataError(
            f"{named(films)}: give the folder, with a folder for each label in it, or a list"
        )
    labels = read_labels(source.labels) if source.labels else None
    train = read_clips(source.data, root, labels)
    known = train.labels
    if any(known.texts[s.label] != train.wordings[w] for s in train.samples for w in s.wordings):
        raise DataError("lists with captions: give them to python -m model.train --config FILE")
    pairs = _pairs(train)
    if source.val:
        return Split(known, pairs, _pairs(read_clips(source.val, root, known)), [])
    parts = drawn(root, pairs, VAL_SHARE, SEED, source.group_by)
    return Split(known, *parts, [], held_back=True)


def _pairs(clips: ClipList) -> Pairs:
    return [(sample.name, clips.labels.names[sample.label]) for sample in clips.samples]


def _readable(split: Split) -> Split:
    """Give each label a text that reads like one; names that become the same text are joined."""
    labels = split.labels
    words = not_words(labels.texts)
    texts = [words.get(text) or text for text in labels.texts]
    codes = [text for text, said in words.items() if not said]
    first: dict[str, int] = {}
    joined = {
        label_key(name): first.setdefault(label_key(texts[index]), index)
        for index, name in enumerate(labels.names)
    }
    kept = sorted(set(joined.values()))
    notes = [
        f"one label to the network, joined as {labels.names[joined[label_key(name)]]}: {name}"
        for index, name in enumerate(labels.names)
        if joined[label_key(name)] != index
    ]
    if codes:
        notes.append(
            f"labels that do not read like text ({len(codes)}): {named(codes)}: write what is to "
            f"be seen into {LABELS}"
        )
    known = LabelList(
        tuple(labels.names[index] for index in kept), tuple(texts[index] for index in kept)
    )

    def renamed(pairs: Pairs) -> Pairs:
        return [(path, labels.names[joined[label_key(label)]]) for path, label in pairs]

    parts: dict[str, Any] = {
        name: renamed(getattr(split, name)) for name in ("train", "val", "test")
    }
    return replace(split, labels=known, notes=(*split.notes, *notes), **parts)


def with_texts(clips: Clips, folder: Path) -> Clips:
    """Take over the texts that a person has written into the column `text` of earlier lists."""
    file = folder / LABELS
    if not file.is_file():
        return clips
    earlier = read_labels(file)
    written = dict(zip(earlier.names, earlier.texts, strict=True))
    labels = clips.split.labels
    texts = tuple(
        written.get(name, text) for name, text in zip(labels.names, labels.texts, strict=True)
    )
    return replace(clips, split=replace(clips.split, labels=LabelList(labels.names, texts)))


def checked(clips: Clips, check: Callable[[ClipList], Findings]) -> Clips:
    """Look at every clip; leave out what cannot be trained on, and say what and why.

    Of a clip that is there more than once one stays, on the side that accuracy is measured on if
    it is there.
    """
    split = clips.split
    findings = check(clips.part([*split.val, *split.test, *split.train]))
    if findings.alike:
        alike = " = ".join(findings.alike[0])
        raise DataError(f"{alike}: the same text to the network: write others into {LABELS}")
    if findings.too_long:
        raise DataError(f"{findings.too_long[0]!r} is too long to read: shorten it in {LABELS}")
    training = {path for path, _ in split.train}
    reasons = _reasons(findings, training)
    out: defaultdict[str, list[str]] = defaultdict(list)
    for path, reason in reasons.items():
        hint = findings.hints.get(path)
        out[reason].append(f"{path} ({hint})" if hint else path)
    notes = [f"left out, {why} ({len(names)}): {named(names)}" for why, names in out.items()]
    if findings.too_short:
        notes.append(
            f"shorter than the frames that are read, some of which repeat "
            f"({len(findings.too_short)}): {named(list(findings.too_short))}"
        )
    seen: set[str] = set()
    parts: dict[str, Any] = {}
    for name in ("val", "test", "train"):
        pairs = dict(getattr(split, name))  # a row that stands there twice counts once
        parts[name] = [(p, label) for p, label in pairs.items() if p not in {*reasons, *seen}]
        seen |= pairs.keys()
    listed = sum(len(getattr(split, name)) for name in parts)
    if len(seen) < listed:
        notes.append(
            f"left out, rows of clips that are listed more than once: {listed - len(seen)}"
        )
    kept = replace(split, notes=(*split.notes, *notes), **parts)
    return replace(clips, split=_with_clips(kept, notes))


def _reasons(findings: Findings, training: set[str]) -> dict[str, str]:
    """Say of each clip that is left out why."""
    reasons = dict.fromkeys(findings.missing, "missing")
    reasons |= {
        name: f"cannot be decoded ({why.partition(':')[0]})"
        for name, why in findings.broken.items()
    }
    for group in (*findings.copies_with_other_labels, findings.contradicting):
        reasons |= dict.fromkeys(group, "the same clip under several labels")
    for group in findings.copies:
        others = sorted(group, key=training.__contains__)[1:]
        reasons |= dict.fromkeys(others, "a copy of another clip")
    return reasons


def _with_clips(split: Split, left_out: Sequence[str]) -> Split:
    """Keep the labels that there are clips to train on for; DataError where two are not left, which
    tells what was left out.
    """
    trained = {label_key(label) for _, label in split.train}
    labels = split.labels
    kept = [index for index, name in enumerate(labels.names) if label_key(name) in trained]
    lost = [name for index, name in enumerate(labels.names) if index not in kept]
    if len(kept) < 2:
        raise DataError(
            f"{len(kept)} label{'s' * (len(kept) != 1)} with clips to train on, two are needed: "
            + "; ".join(["one folder for each label, with its clips in it", *left_out])
        )
    notes = [f"labels without clips to train on ({len(lost)}): {named(lost)}"] if lost else []
    known = LabelList(*(tuple(t[i] for i in kept) for t in (labels.names, labels.texts)))
    parts: dict[str, Any] = {
        name: [pair for pair in getattr(split, name) if label_key(pair[1]) in trained]
        for name in ("train", "val", "test")
    }
    if not parts["val"]:
        raise DataError(
            "no clips are left to measure accuracy on: each label needs two clips or more of "
            + "; ".join(["different videos (--group-by none takes each file as one)", *left_out])
        )
    return replace(split, labels=known, notes=(*split.notes, *notes), **parts)


def write(clips: Clips, folder: Path) -> None:
    """Write the lists of all parts, and the labels with their column `text`."""
    write_split(clips.split, folder)
    file, labels = folder / LABELS, clips.split.labels
    draft = folder / f".{LABELS}.draft-{os.getpid()}"
    with draft.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("id", "name", "text"))
        rows = zip(labels.names, labels.texts, strict=True)
        writer.writerows((index, *row) for index, row in enumerate(rows))
    os.replace(draft, file)


def lists(folder: Path) -> dict[str, Path]:
    """Return the files that `write` wrote, by part."""
    names: Sequence[tuple[str, str]] = (("train", TRAIN), ("val", VAL), ("test", TEST))
    return {part: folder / name for part, name in names if (folder / name).is_file()}
