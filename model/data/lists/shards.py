"""WebDataset shards: samples of tar members that share a key, `KEY.mp4` and `KEY.json` or others.

A sample is one clip and its label: `KEY.cls` (a class number), `KEY.txt` (a label name) or
`KEY.json` ({"label": …, "captions": […]}).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from model.data.errors import DataError
from model.data.lists.files import Shards
from model.data.lists.tables import Row

if TYPE_CHECKING:
    from model.data.lists.cliplist import ClipList

LABELS = {"cls", "txt", "json"}
MAX_PER_SHARD, MAX_BYTES = 10_000, 1 << 30


def rows_of_shards(shards: Shards) -> list[Row]:
    """One row a sample; DataError names a sample without a clip or a label."""
    samples: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for name in shards.members:
        path = PurePosixPath(name)
        key, _, ending = path.name.partition(".")  # as WebDataset does: at the first dot
        samples[str(path.parent), key][ending.lower()] = name
    return [
        _row(shards, parts, f"{shards.paths[int(folder.split('/')[0])]}, sample {key}")
        for (folder, key), parts in samples.items()
    ]


def _row(shards: Shards, parts: dict[str, str], where: str) -> Row:
    clips = [name for ending, name in parts.items() if ending not in LABELS]
    if len(clips) != 1:
        raise DataError(f"{where} has {len(clips)} clips, should have one")
    if "json" in parts:
        return _described(_read(shards, parts["json"]), clips[0], where)
    for ending in ("cls", "txt"):
        if ending in parts:
            return Row(clips[0], _read(shards, parts[ending]).strip(), (), where)
    raise DataError(f"{where} has no label: add a .cls, .txt or .json member")


def _described(text: str, clip: str, where: str) -> Row:
    try:
        content: Any = json.loads(text)
        label, captions = content["label"], content.get("captions", [])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f'{where}: its .json must be like {{"label": "waving"}}') from None
    return Row(clip, str(label), tuple(map(str, captions)), where)


def _read(shards: Shards, name: str) -> str:
    with shards.open(name) as stream:
        return stream.read().decode("utf-8")


def write_shards(clips: ClipList, folder: Path, prefix: str = "clips") -> Iterator[str]:
    """Write a set as shards `PREFIX-000000.tar`, …; yields the name of each clip once written."""
    from webdataset import ShardWriter

    if any(folder.glob(f"{prefix}-*.tar")):
        raise DataError(f"{folder} holds shards already: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    pattern = str(folder / f"{prefix}-%06d.tar")
    _refuse_missing(clips)
    with ShardWriter(pattern, maxcount=MAX_PER_SHARD, maxsize=MAX_BYTES, verbose=0) as writer:
        for number, sample in enumerate(clips.samples):
            label = clips.labels.names[sample.label]
            captions = [clips.wordings[place] for place in sample.wordings]
            ending = PurePosixPath(sample.name).suffix.lstrip(".").lower() or "video"
            with clips.files.open(sample.name) as stream:
                content = {"label": label, "captions": captions, "source": sample.name}
                writer.write({"__key__": f"{number:09d}", ending: stream.read(), "json": content})
            yield sample.name


def _refuse_missing(clips: ClipList) -> None:
    """Before the first shard is begun."""
    missing = [s.name for s in clips.samples if not clips.files.holds(s.name)]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{missing[0]}{more} cannot be packed, the file is missing: look at the list with "
            "python -m model.data check"
        )
