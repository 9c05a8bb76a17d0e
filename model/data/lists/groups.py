"""Which clips are cuts of one video, told by their names: they belong on one side of a split."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePath

from model.data.errors import DataError

STEM, FOLDER, NONE = "stem", "folder", "none"
# What is written behind the name of a video to number its cuts: "_c01", " part 2", "-0003", " (1)",
# "_000010_000020", ".12.5". It never goes back (?>, ++): some names would keep it busy for ever.
CUT = re.compile(
    r"""(?> [ _.\-]+ (?:c|cut|clip|part|pt|seg|segment|scene|shot|take) [ _.\-]* \d+
          | [ _.\-]+ copy (?:[ _.\-]* \d+)?
          | \s* \(\d+\)
          | [ _.\-]+ \d+ (?:\.\d+)? s? )++ $""",
    re.VERBOSE,
)
# Cameras, telephones and people number videos after these words, one video a number.
COUNTED = frozenset(
    (
        *("img", "vid", "video", "videos", "clip", "clips", "mov", "movie", "mvi", "dsc", "dscn"),
        *("dscf", "gopr", "gh", "gx", "pxl", "dji", "wa", "file", "rec", "recording", "screen"),
    )
)


def groups_of(pairs: Sequence[tuple[str, str]], rule: str) -> dict[str, str]:
    """Return the group of each clip: clips of one group are cuts of one video.

    Args:
        pairs: path and label of each clip.
        rule: `stem`, the file's name without ending and without what numbers a cut; `folder`, the
            folder that it lies in, below that of its label; `none`, each file for itself; or a
            regular expression with one group in parentheses, whose match in the path it is.

    Raises:
        DataError: The rule is no regular expression with one group, or a path does not match it.
    """
    if rule == STEM:
        return _by_stem(pairs)
    if rule == NONE:
        return {path: path for path, _ in pairs}
    if rule == FOLDER:
        return {path: str(PurePath(path).parent) for path, _ in pairs}
    return _by_expression(pairs, rule)


def _by_stem(pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Group by name; where all clips of a label would be one video the number is taken for its."""
    groups = {path: _stem(path, label) for path, label in pairs}
    of_label: defaultdict[str, set[str]] = defaultdict(set)
    for path, label in pairs:
        of_label[label].add(path)
    for paths in of_label.values():
        if len(paths) > 1 and len({groups[path] for path in paths}) == 1:
            groups |= {path: PurePath(path).stem.lower() for path in paths}
    return groups


def _stem(path: str, label: str) -> str:
    whole = PurePath(path).stem.lower()
    bare = CUT.sub("", whole).strip(" _.-")
    word = re.sub(r"[\W_]+", "", bare)
    if not word or word in COUNTED or word == re.sub(r"[\W_]+", "", label.lower()):
        return whole
    return bare


def _by_expression(pairs: Sequence[tuple[str, str]], rule: str) -> dict[str, str]:
    try:
        expression = re.compile(rule)
    except re.error as error:
        raise DataError(f"--group-by {rule!r} is no regular expression: {error}") from None
    if expression.groups != 1:
        raise DataError(
            f"--group-by {rule!r} needs one group in parentheses, as in 'v_(.*)_c\\d+'; or stem, "
            "folder or none"
        )
    groups = {}
    for path, _ in pairs:
        match = expression.search(path)
        if match is None or match[1] is None:
            raise DataError(f"--group-by {rule!r} matches nothing in {path}")
        groups[path] = match[1]
    return groups


def joined(groups: dict[str, str], contents: dict[str, str]) -> dict[str, str]:
    """Join the groups of clips that have the same content, and those that were joined so.

    Args:
        groups: the group of each path.
        contents: what stands for the content of each path.

    Returns:
        The key of each path. Of a path that is alone in its group it is its content, so that its
        side does not hang on its name; else the name of the group.
    """
    first: dict[str, str] = {}
    parent: dict[str, str] = {}

    def root(group: str) -> str:
        while parent.get(group, group) != group:
            group = parent[group]
        return group

    for path, group in groups.items():
        other = first.setdefault(contents[path], group)
        one, two = sorted((root(group), root(other)))
        parent[two] = one
    members: defaultdict[str, set[str]] = defaultdict(set)
    for path, group in groups.items():
        members[root(group)].add(contents[path])
    keys = {}
    for path, group in groups.items():
        own = root(group)
        keys[path] = contents[path] if len(members[own]) == 1 else own
    return keys
