"""What training does to the pixels of a clip (the released code's train pipeline).

A clip is uint8 (T,h,w,3) RGB with its short side resized; it leaves as (T,H,H,3). Crop, mirroring
and grey are shared by its frames. Normalisation is the trainer's, on the device.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

import model.torchvision_schemas  # noqa: F401  (before torchvision)
from model.data.config import AugmentConfig
from model.inputs import InputSpec
from model.inputs.clip import Pixels
from model.inputs.pixels.crop import RESIZERS

# isort: split
from torchvision.transforms import v2

SNAP = 3  # a crop side closer than this to the wanted size becomes it
SEEDS = 1 << 62
# torchvision draws from the one generator that all threads of the process share.
seeding = threading.Lock()


@dataclass(frozen=True)
class Crop:
    """A window of the picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


def draw_crop(
    height: int, width: int, side: int, config: AugmentConfig, rng: np.random.Generator
) -> Crop:
    """Draw one of the published windows: ten shapes made of the scales, at five positions."""
    sides = [int(min(height, width) * scale) for scale in config.scales]
    shapes = [
        (rows, columns)
        for i, rows in enumerate(sides)
        for j, columns in enumerate(sides)
        if abs(i - j) <= 1
    ]
    rows, columns = (_snapped(n, side) for n in shapes[rng.integers(len(shapes))])
    positions = [(2, 2)]
    if config.positions == "five":
        positions = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
    down, across = positions[rng.integers(len(positions))]
    top, left = down * ((height - rows) // 4), across * ((width - columns) // 4)
    return Crop(top, left, rows, columns)


def _snapped(length: int, side: int) -> int:
    return side if abs(length - side) < SNAP else length


class Augment:
    """The transform of a training clip: the same generator state gives the same pixels."""

    def __init__(self, config: AugmentConfig, spec: InputSpec) -> None:
        self.config, self.spec = config, spec
        self._colours = v2.ColorJitter(
            config.brightness, config.contrast, config.saturation, config.hue
        )

    def __call__(self, frames: Pixels, rng: np.random.Generator) -> Pixels:
        """Augment uint8 (T,h,w,3), short side resized, to uint8 (T,H,H,3)."""
        side = self.spec.image_size
        crop = draw_crop(frames.shape[1], frames.shape[2], side, self.config, rng)
        cut = frames[:, crop.top : crop.top + crop.height, crop.left : crop.left + crop.width]
        if cut.shape[1:3] != (side, side):
            resize = RESIZERS[self.spec.resize_rule]
            whole = (0, 0, side, side)
            cut = np.stack([resize(frame, (side, side), whole) for frame in cut])
        # Every draw is made whether or not it is used, so that one option leaves the others alone.
        flip, jitter, grey = rng.random(3)
        seed = int(rng.integers(SEEDS))
        if flip < self.config.flip:
            cut = cut[:, :, ::-1]
        if self.config.colours and jitter < self.config.jitter:
            cut = self._jittered(cut, seed)
        if grey < self.config.grey:
            cut = _grey(cut)
        return np.ascontiguousarray(cut)

    def _jittered(self, frames: Pixels, seed: int) -> Pixels:
        """Change the colours through Pillow, as published, and twice as fast as on tensors."""
        pictures = [Image.fromarray(np.ascontiguousarray(frame)) for frame in frames]
        with seeding, torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            if self.config.jitter_by == "clip":
                pictures = self._colours(pictures)
            else:
                pictures = [self._colours(picture) for picture in pictures]
        return np.stack([np.asarray(picture) for picture in pictures])


def _grey(frames: Pixels) -> Pixels:
    """Put Pillow's luma, which torchvision's Grayscale gives, into all three channels."""
    luma = [np.asarray(Image.fromarray(np.ascontiguousarray(f)).convert("L")) for f in frames]
    return np.repeat(np.stack(luma)[..., None], 3, axis=-1)
