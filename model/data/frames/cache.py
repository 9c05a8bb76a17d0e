"""Decoded frames of a small set, kept in one file that the system maps into memory.

Decoding is done once, by all workers; after that drawing a clip is copying some of its frames.
A cache belongs to one list, one version of its files and one way of resizing; another makes
another file.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from model.data.config import DataConfig
from model.data.errors import DataError
from model.data.frames.loading import in_workers
from model.data.frames.reading import TestClips, Unusable, why
from model.data.lists.cliplist import ClipList
from model.files import sync
from model.inputs import FrameRule, InputSpec, VideoError, decode_uncropped, sample_indices
from model.inputs.clip import Pixels

OnClip = Callable[[], None]


@dataclass(frozen=True)
class Entry:
    """Where the frames of a clip lie in the file and their shape; or why there are none."""

    offset: int
    shape: tuple[int, ...]
    reason: str = ""


class WholeClips(Dataset[Pixels | str]):
    """Up to `most` frames of each clip, short side resized: all of a shorter one."""

    def __init__(
        self,
        clips: ClipList,
        spec: InputSpec,
        most: int,
        frame_rule: FrameRule = FrameRule.EXACT,
    ) -> None:
        self.clips, self.most, self.frame_rule = clips, most, frame_rule
        self.spec = spec.model_copy(update={"num_frames": most})

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Pixels | str:
        """Decode uint8 (n,h,w,3), or say why there is none."""
        try:
            with self.clips.files.open(self.clips.samples[index].name) as stream:
                clip = decode_uncropped(
                    stream, self.spec, sampling="test", frame_rule=self.frame_rule
                )
        except (VideoError, OSError) as error:
            return why(error)
        # A clip of fewer frames gives some of them twice; each is kept once.
        _, first = np.unique(sample_indices(clip.info.frames, self.most)[0], return_index=True)
        return clip.frames[0][first]

    @property
    def way(self) -> str:
        """Describe what the pixels depend on besides the files."""
        return f"whole {self.spec.model_dump_json()}{_suffix(self.frame_rule)}"


class Kept(Protocol):
    """Clips of which something is kept; `way` says what that depends on besides the files."""

    clips: ClipList

    @property
    def way(self) -> str:
        """Describe how an array is made of a file."""


class FixedClips(Dataset[Pixels | str]):
    """The views of an evaluation, as they are."""

    def __init__(self, clips: TestClips) -> None:
        self.test, self.clips = clips, clips.clips

    def __len__(self) -> int:
        return len(self.test)

    def __getitem__(self, index: int) -> Pixels | str:
        """Decode uint8 (V,T,H,W,3), or say why there is none."""
        clip = self.test[index]
        return clip.views if clip.views is not None else clip.broken.reason  # type: ignore[union-attr]

    @property
    def way(self) -> str:
        """Describe what the pixels depend on besides the files."""
        spec = self.test.spec.model_dump_json()
        return f"test {self.test.views} {self.test.crops} {spec}{_suffix(self.test.frame_rule)}"


def _suffix(rule: FrameRule) -> str:
    """Name the rule as caches know it: those made before there was another one are `exact`."""
    return "" if rule is FrameRule.EXACT else f" {rule}"


class CachedFrames:
    """The finished file; copies in other processes map it anew."""

    def __init__(self, file: Path, entries: list[Entry], dtype: type[np.generic]) -> None:
        self.file, self.entries, self.dtype = file, entries, dtype
        self._mapped: Any = None

    def read(self, index: int) -> Any:
        """Return the array of a clip, not copied. Unusable where it could not be decoded."""
        entry = self.entries[index]
        if entry.reason:
            raise Unusable(entry.reason)
        if self._mapped is None:
            self._mapped = np.memmap(self.file, dtype=self.dtype, mode="r")
        first, size = entry.offset // self._mapped.itemsize, math.prod(entry.shape)
        return self._mapped[first : first + size].reshape(entry.shape)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}


class DrawnFromCache:
    """Training frames out of whole clips: T of them by the training rule, or `evenly` spread.

    Of clips that are kept whole they are the frames that decoding the file would give.
    """

    def __init__(self, cached: CachedFrames, num_frames: int, *, evenly: bool = False) -> None:
        self.cached, self.num_frames, self.evenly = cached, num_frames, evenly

    def __call__(self, index: int, rng: np.random.Generator) -> Pixels:
        """Draw uint8 (T,h,w,3)."""
        whole: Pixels = self.cached.read(index)
        if self.evenly:
            return whole[sample_indices(len(whole), self.num_frames)[0]]
        seeded = np.random.default_rng(int(rng.integers(1 << 62)))  # as decode_uncropped does
        return whole[sample_indices(len(whole), self.num_frames, rng=seeded)[0]]


def cached_frames(
    source: WholeClips | FixedClips, folder: Path, config: DataConfig, on_clip: OnClip
) -> CachedFrames:
    """Open the frames of all clips, kept or decoded now. DataError on a full disk."""

    def decoded() -> Iterator[Pixels | str]:
        return in_workers(source, config)

    return kept_arrays(f"frames-{key_of(source)}", folder, decoded, on_clip, np.uint8)


def kept_arrays(
    name: str,
    folder: Path,
    arrays: Callable[[], Iterator[NDArray[Any] | str]],
    on_clip: OnClip,
    dtype: type[np.generic],
) -> CachedFrames:
    """Open the file of that name; where there is none, fill it with one array for each clip.

    Args:
        name: of the file; it says what the arrays depend on.
        folder: where it lies.
        arrays: gives the array of each clip, or why there is none.
        on_clip: called after each clip.
        dtype: of the arrays.

    Raises:
        DataError: The disk is full.
    """
    file, index = folder / f"{name}.bin", folder / f"{name}.json"
    if not index.exists():
        draft = folder / f".draft-{name}-{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            entries = _fill(draft, arrays(), on_clip)
            os.replace(draft, file)
            draft.write_text(json.dumps([asdict(entry) for entry in entries]))
            os.replace(draft, index)  # the index last: it makes the cache count
        except OSError as error:
            raise DataError(
                f"decoded frames cannot be kept in {folder} ({error.strerror}): set "
                "data.cache.folder to a larger disk, or lower data.cache.frames"
            ) from None
        finally:
            draft.unlink(missing_ok=True)
    stored = json.loads(index.read_text())
    entries = [Entry(e["offset"], tuple(e["shape"]), e["reason"]) for e in stored]
    return CachedFrames(file, entries, dtype)


def _fill(draft: Path, arrays: Iterator[NDArray[Any] | str], on_clip: OnClip) -> list[Entry]:
    entries, offset = [], 0
    with draft.open("wb") as stream:
        for array in arrays:
            if isinstance(array, str):
                entries.append(Entry(0, (), array))
            else:
                stream.write(np.ascontiguousarray(array).data)
                entries.append(Entry(offset, array.shape))
                offset += array.nbytes
            on_clip()
    sync(draft)
    return entries


def key_of(source: Kept) -> str:
    """Return what stands for a list, the versions of its files, and what is made of them."""
    digest = hashlib.sha256(source.way.encode())
    files = source.clips.files
    for sample in source.clips.samples:
        digest.update(f"\n{sample.name}\t{files.version(sample.name)}".encode())
    return digest.hexdigest()[:24]
