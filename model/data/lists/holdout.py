"""Which clips accuracy is measured on: it follows from their content and a seed alone.

A clip stays on its side when others come or go or when it is renamed, and copies of a clip are on
one side.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from model.data.errors import DataError
from model.data.lists.cliplist import open_files
from model.data.lists.content import fingerprint
from model.data.lists.groups import NONE, groups_of, joined
from model.inputs import label_key
from model.progress import progress

Pairs = list[tuple[str, str]]  # path below the root, label
SHOW_PROGRESS_FROM = 2000  # clips


def drawn(
    root: Path, pairs: Pairs, share: float, seed: int, group_by: str = NONE
) -> tuple[Pairs, Pairs]:
    """Hold back groups by their hash, up to the share; in a class without any the lowest.

    Each file for itself, those below the share are held back, whatever else there is; of groups,
    which may be large and few, as many as come nearest to it.
    """
    keys = joined(groups_of(pairs, group_by), _contents(root, [path for path, _ in pairs]))
    fractions = {key: _fraction(key, seed) for key in keys.values()}
    classes: defaultdict[str, set[str]] = defaultdict(set)
    for path, label in pairs:
        classes[label_key(label)].add(keys[path])
    held = {key for key, at in fractions.items() if at < share}
    if group_by != NONE:
        held = _up_to(share * len(pairs), fractions, Counter(keys.values()))
    for own in classes.values():
        if len(own) == 1 or not share:
            held -= own
        elif not own & held:
            held.add(min(own, key=fractions.__getitem__))
        elif own <= held:
            held.remove(max(own, key=fractions.__getitem__))
    train = [pair for pair in pairs if keys[pair[0]] not in held]
    return train, [pair for pair in pairs if keys[pair[0]] in held]


def _up_to(clips: float, fractions: Mapping[str, float], sizes: Mapping[str, int]) -> set[str]:
    """Take groups in the order of their hashes as long as that comes nearer to so many clips."""
    taken: set[str] = set()
    count = 0
    for key in sorted(fractions, key=fractions.__getitem__):
        if count + sizes[key] / 2 <= clips:
            taken.add(key)
            count += sizes[key]
    return taken


def folded(
    root: Path, pairs: Pairs, folds: int, seed: int, group_by: str = NONE
) -> list[tuple[Pairs, Pairs]]:
    """Split clips into so many parts by groups, each class evenly; each part is held back once.

    DataError where a class has fewer groups than there are folds.
    """
    keys = joined(groups_of(pairs, group_by), _contents(root, [path for path, _ in pairs]))
    of_class: defaultdict[str, set[str]] = defaultdict(set)
    for path, label in pairs:
        of_class[label].add(keys[path])
    fold: dict[str, int] = {}
    for label, own in of_class.items():
        if len(own) < folds:
            raise DataError(
                f"label {label!r} has clips of {len(own)} videos, too few for {folds} folds: give "
                "fewer folds or more clips"
            )
        for number, key in enumerate(sorted(own, key=lambda key: _fraction(key, seed))):
            fold.setdefault(key, number % folds)
    return [
        (
            [pair for pair in pairs if fold[keys[pair[0]]] != held],
            [pair for pair in pairs if fold[keys[pair[0]]] == held],
        )
        for held in range(folds)
    ]


def _contents(root: Path, paths: Sequence[str]) -> dict[str, str]:
    """Return what stands for the content of each clip.

    What is empty, missing or cannot be read is known by its path: looking at clips finds it.
    """
    keys, files = {path: path for path in paths}, open_files(root)
    with progress("reading clips", len(paths), shown=len(paths) >= SHOW_PROGRESS_FROM) as on_clip:
        for path in paths:
            with suppress(OSError), files.open(path) as stream:
                if stream.seek(0, os.SEEK_END):
                    keys[path] = fingerprint(stream)
            on_clip()
    return keys


def _fraction(key: str, seed: int) -> float:
    """Return a number from 0 to 1 that a content has, whatever else there is."""
    digest = hashlib.sha256(f"{seed} {key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / (1 << 64)
