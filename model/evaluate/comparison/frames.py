"""Frames of a list for several networks: each clip is decoded once for all of them, and kept.

A file holds the frames of one clip as one kind of network wants them. What was decoded before a
run was ended is there when it starts again; what nobody has named a folder for is cleared by the
run that comes to its end, or a week later by another where two ran beside each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from model.data.config import DataConfig
from model.data.errors import DataError
from model.data.frames.loading import in_workers
from model.data.frames.reading import Broken, why
from model.data.lists.cliplist import ClipList
from model.inputs import FrameRule, InputSpec, VideoError, decode_for_several
from model.inputs.clip import Pixels

# What the pixels depend on; networks that differ elsewhere share their frames.
PIXEL_FIELDS = {
    *("num_frames", "image_size", "resize_short_side", "frame_rule", "resize_rule"),
    *("crop", "pixel_aspect"),
}
LOCK = "lock"
GIVEN_UP_S = 7 * 24 * 3600  # a run that was ended so long ago will not go on


@dataclass(frozen=True)
class KeptFrames:
    """Where the frames of each clip lie for each input spec; pickled to whoever reads them."""

    folder: Path
    clips: ClipList
    frame_rule: FrameRule = FrameRule.EXACT

    def file(self, index: int, spec: InputSpec) -> Path:
        """Return the file of a clip; another one once the clip or the preparation changes."""
        name = self.clips.samples[index].name
        pixels = spec.model_dump_json(include=PIXEL_FIELDS)
        facts = (name, self.clips.files.version(name), pixels, str(self.frame_rule))
        digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()
        return self.folder / digest[:2] / f"{digest[2:40]}.npy"

    def read(self, index: int, spec: InputSpec) -> Pixels:
        """Return uint8 (1,T,H,W,3)."""
        frames: Pixels = np.load(self.file(index, spec), allow_pickle=False)
        return frames

    def keep(
        self, specs: Sequence[InputSpec], config: DataConfig, on_clip: Callable[[], None]
    ) -> dict[int, Broken]:
        """Decode what is not there yet, in the decoding workers.

        Returns:
            The clips that cannot be decoded, by their index in the list.

        Raises:
            DataError: The frames cannot be written.
        """
        decoding = _Decoding(self, tuple(specs))
        broken = {}
        for index, reason in enumerate(in_workers(decoding, config)):
            if reason is not None:
                broken[index] = Broken(self.clips.samples[index].name, reason)
            on_clip()
        return broken

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Have no other run clear the folder meanwhile. OSError where it cannot be written to."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / LOCK).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    def clear(self, specs: Sequence[InputSpec]) -> None:
        """Remove the frames of this list, and those of runs that were given up.

        While another run uses the folder all stays. That run clears the frames that it asks for
        too; the others go with a run that ends a week later.
        """
        with (self.folder / LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            given_up = time.time() - GIVEN_UP_S
            files = [self.file(i, spec) for i in range(len(self.clips)) for spec in specs]
            files += [f for f in self.folder.glob("*/*") if f.stat().st_mtime < given_up]
            for file in files:
                file.unlink(missing_ok=True)


class _Decoding(Dataset[str | None]):
    """Write the frames of a clip where they are missing; the item is why that cannot be."""

    def __init__(self, kept: KeptFrames, specs: tuple[InputSpec, ...]) -> None:
        self.kept, self.specs = kept, specs

    def __len__(self) -> int:
        return len(self.kept.clips)

    def __getitem__(self, index: int) -> str | None:
        files = {self.kept.file(index, spec): spec for spec in self.specs}
        missing = {file: spec for file, spec in files.items() if not file.exists()}
        if not missing:
            return None
        clips, rule = self.kept.clips, self.kept.frame_rule
        try:
            with clips.files.open(clips.samples[index].name) as stream:
                decoded = decode_for_several(stream, tuple(missing.values()), frame_rule=rule)
        except (VideoError, OSError) as error:
            return why(error)
        for file, frames in zip(missing, decoded, strict=True):
            _write(file, frames)
        return None


def _write(file: Path, frames: Pixels) -> None:
    """Write a file that is there whole or not at all."""
    draft = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as stream:
            np.save(stream, frames, allow_pickle=False)
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise DataError(
            f"decoded frames cannot be kept in {file.parent.parent} ({error.strerror}): "
            "name a larger disk with --frames-in"
        ) from None
