"""WebDataset shards: samples of tar members that share a key, `KEY.mp4` and `KEY.json` or others.

A sample is one clip and, where somebody gave it one, its label: `KEY.cls` (a class number),
`KEY.txt` (a label name) or `KEY.json` ({"label": …, "captions": […]}).
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any

from model.data.errors import DataError
from model.data.lists.files import Shards
from model.data.lists.names import is_clip, is_side, is_text
from model.data.lists.tables import Row, label_of

LABELS = {"cls", "txt", "json"}


def rows_of_shards(shards: Shards) -> list[Row]:
    """Return one row a sample; DataError names a sample without a clip."""
    samples: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for name in shards.members:
        path = PurePosixPath(name)
        if any(is_side(part) for part in path.parts):
            continue
        if not is_text(name):
            raise DataError(f"{_shard(shards, name)}: the name of {name!a} is not UTF-8")
        key, _, ending = path.name.partition(".")  # as WebDataset does: at the first dot
        samples[str(path.parent), key][ending.lower()] = name
    return [
        _row(shards, parts, f"{_shard(shards, folder)}, sample {key}")
        for (folder, key), parts in samples.items()
    ]


def _row(shards: Shards, parts: dict[str, str], where: str) -> Row:
    others = [name for ending, name in parts.items() if ending not in LABELS]
    clips = [name for name in others if is_clip(name)] or others
    if len(clips) != 1:
        raise DataError(f"{where} has {len(clips)} clips, should have one")
    if "json" in parts:
        return _described(_read(shards, parts["json"], where), clips[0], where)
    for ending in ("cls", "txt"):
        if ending in parts:
            return Row(
                clips[0], label_of(_read(shards, parts[ending], where).strip(), where), (), where
            )
    return Row(clips[0], None, (), where)


def _described(text: str, clip: str, where: str) -> Row:
    try:
        content: Any = json.loads(text)
        label, captions = content["label"], content.get("captions", [])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f'{where}: its .json must be like {{"label": "waving"}}') from None
    if not isinstance(captions, list) or not all(isinstance(text, str) for text in captions):
        raise DataError(f'{where}: captions must be a list of texts: ["a", "b"]')
    return Row(clip, label_of(label, where), tuple(captions), where)


def _read(shards: Shards, name: str, where: str) -> str:
    with shards.open(name) as stream:
        try:
            return stream.read().decode("utf-8-sig")
        except UnicodeDecodeError:
            raise DataError(f"{where}: {PurePosixPath(name).name} is not UTF-8") from None


def _shard(shards: Shards, member: str) -> str:
    """Return the file that a member is in: members are named NUMBER/NAME."""
    return str(shards.paths[int(member.split("/")[0])])
