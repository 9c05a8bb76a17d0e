"""Clips as arrays: one of a training batch, one of an evaluation. Runs in the decoding workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from model.data.config import AugmentConfig
from model.data.errors import DataError
from model.data.frames.augment import Augment
from model.data.frames.order import Draw
from model.data.frames.streams import Stream
from model.data.lists.cliplist import UNLABELLED, ClipList
from model.inputs import FrameRule, InputSpec, VideoError, decode_clip, decode_uncropped
from model.inputs.clip import Pixels

ATTEMPTS = 20
ReadClip = Callable[[int, np.random.Generator], Pixels]


@dataclass(frozen=True)
class Broken:
    """A clip that could not be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class TrainingClip:
    """Frames (T,H,W,3) uint8, the class, the index of the drawn wording, what was passed over.

    Class and wording are UNLABELLED where there is none.
    """

    frames: Pixels
    index: int
    label: int
    wording: int
    passed_over: tuple[Broken, ...]


@dataclass(frozen=True)
class TestClip:
    """Views (V,T,H,W,3) uint8 of a clip; None, and why, where it cannot be decoded."""

    index: int
    views: Pixels | None
    broken: Broken | None


class Unusable(OSError):
    """A clip that is known not to be decodable; the message says why."""


def why(error: VideoError | OSError) -> str:
    """Return a reason for the list of broken clips."""
    if isinstance(error, VideoError):
        return f"{error.code}: {error.detail}"
    return error.strerror or str(error)


class TrainingClips(Dataset[TrainingClip]):
    """Sampled at random, augmented. A broken clip is replaced by another that the draw picks."""

    def __init__(
        self,
        clips: ClipList,
        spec: InputSpec,
        augment: AugmentConfig,
        read: ReadClip | None = None,
        frame_rule: FrameRule = FrameRule.EXACT,
    ) -> None:
        self.clips, self.spec, self.frame_rule = clips, spec, frame_rule
        self.evenly = augment.frames == "evenly"
        self.augment = Augment(augment, spec)
        self.read = read or self._decode

    def __len__(self) -> int:
        return len(self.clips)

    def __getitems__(self, draws: Sequence[Draw]) -> list[TrainingClip]:
        """Read the clips of a batch side by side: on the one thread that a decoding worker has, or
        on those of the training process, which else waits on one of them for a batch.
        """
        with ThreadPoolExecutor(min(len(draws), torch.get_num_threads())) as pool:
            return list(pool.map(self.__getitem__, draws))

    def __getitem__(self, draw: Draw) -> TrainingClip:
        """Read the clip of a draw, or of the next one that it leads to."""
        index, broken = draw.index, []
        for attempt in range(ATTEMPTS):
            try:
                whole = self.read(index, draw.rng(Stream.FRAMES, attempt))
                frames = self.augment(whole, draw.rng(Stream.AUGMENTATION, attempt))
            except (VideoError, OSError) as error:
                broken.append(Broken(self.clips.samples[index].name, why(error)))
                index = int(draw.rng(Stream.REPLACEMENT, attempt).integers(len(self.clips)))
                continue
            sample = self.clips.samples[index]
            wordings = sample.wordings or (UNLABELLED,)
            drawn = draw.rng(Stream.CLIP_WORDING, attempt).integers(len(wordings))
            wording = wordings[int(drawn)]
            return TrainingClip(frames, index, sample.label, wording, tuple(broken))
        raise DataError(
            f"{ATTEMPTS} clips drawn one after another cannot be decoded, the last "
            f"{broken[-1].name} ({broken[-1].reason}): run python -m model.data check"
        )

    def _decode(self, index: int, rng: np.random.Generator) -> Pixels:
        with self.clips.files.open(self.clips.samples[index].name) as stream:
            rule = self.frame_rule
            if self.evenly:
                clip = decode_uncropped(stream, self.spec, sampling="test", frame_rule=rule)
            else:
                clip = decode_uncropped(stream, self.spec, rng=rng, frame_rule=rule)
        return clip.frames[0]


class TestClips(Dataset[TestClip]):
    """Sampled by the test rule, `views` in time and `crops` in space."""

    __test__ = False

    def __init__(
        self,
        clips: ClipList,
        spec: InputSpec,
        views: int = 1,
        crops: int = 1,
        read: Callable[[int], Pixels] | None = None,
        frame_rule: FrameRule = FrameRule.EXACT,
    ) -> None:
        self.clips, self.spec, self.views, self.crops = clips, spec, views, crops
        self.frame_rule = frame_rule
        self.read = read or self._decode

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> TestClip:
        """Read all views of a clip."""
        try:
            return TestClip(index, self.read(index), None)
        except (VideoError, OSError) as error:
            return TestClip(index, None, Broken(self.clips.samples[index].name, why(error)))

    def _decode(self, index: int) -> Pixels:
        with self.clips.files.open(self.clips.samples[index].name) as stream:
            clip = decode_clip(
                stream,
                self.spec,
                views=self.views,
                crops=self.crops,
                frame_rule=self.frame_rule,
            )
        return clip.frames
