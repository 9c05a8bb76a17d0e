"""Write a set of clips as WebDataset shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from model.data.errors import DataError
from model.data.lists.cliplist import ClipList

MAX_PER_SHARD, MAX_BYTES = 10_000, 1 << 30


def write_shards(clips: ClipList, folder: Path, prefix: str = "clips") -> Iterator[str]:
    """Write a set as shards `PREFIX-000000.tar`, …; yield the name of each clip once written."""
    from webdataset import ShardWriter

    if any(folder.glob(f"{prefix}-*.tar")):
        raise DataError(f"{folder} holds shards already: choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    pattern = str(folder / f"{prefix}-%06d.tar")
    _refuse_missing(clips)
    with ShardWriter(pattern, maxcount=MAX_PER_SHARD, maxsize=MAX_BYTES, verbose=0) as writer:
        for number, sample in enumerate(clips.samples):
            label = clips.labels.names[sample.label]
            captions = [clips.wordings[index] for index in sample.wordings]
            ending = PurePosixPath(sample.name).suffix.lstrip(".").lower() or "video"
            with clips.files.open(sample.name) as stream:
                content = {"label": label, "captions": captions, "source": sample.name}
                writer.write({"__key__": f"{number:09d}", ending: stream.read(), "json": content})
            yield sample.name


def _refuse_missing(clips: ClipList) -> None:
    """Refuse before the first shard is begun."""
    missing = [s.name for s in clips.samples if not clips.files.holds(s.name)]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(
            f"{missing[0]}{more} cannot be packed, the file is missing: look at the list with "
            "python -m model.data check"
        )
