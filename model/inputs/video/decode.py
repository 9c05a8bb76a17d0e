"""Decode a clip: the frames a network wants, ready for it."""

from __future__ import annotations

from typing import BinaryIO, Literal

import numpy as np

from model.inputs.clip import Clip
from model.inputs.errors import SizeChanges
from model.inputs.limits import VideoLimits
from model.inputs.pixels.crop import crop_frame, resize_short_side
from model.inputs.sampling import sample_indices
from model.inputs.spec import InputSpec
from model.inputs.video.sample import Plan, Sampler, Wanted, sample_frames


def decode_clip(
    source: BinaryIO,
    spec: InputSpec,
    *,
    views: int = 1,
    crops: int = 1,
    start: float | None = None,
    end: float | None = None,
    limits: VideoLimits | None = None,
    sampling: Literal["test", "train"] = "test",
    rng: np.random.Generator | None = None,
    threads: int = 1,
    plan: Plan = "auto",
) -> Clip:
    """Sample, decode and crop a clip.

    `source` is a seekable binary file; its name, if it has one, is never looked at. `start` and
    `end` are seconds from the first frame. `sampling="train"` draws frames at random from `rng`.
    `threads` is for the decoder. `plan="full"` decodes every frame, whatever the file is like:
    the same frames, slower.

    Raises a VideoError whose `code` and `detail` say why the clip cannot be used.
    """
    if crops not in (1, 3):
        raise ValueError(f"crops must be 1 or 3, not {crops}")
    sampler = _sampler(spec, views, sampling, rng)
    wanted = Wanted(
        start,
        end,
        sampler,
        lambda image, size: crop_frame(image, spec, crops, size),
        spec.pixel_aspect,
        limits or VideoLimits(),
    )
    sampled = sample_frames(source, wanted, threads, plan)
    rows = np.stack([taken.pixels for taken in sampled.frames])  # (V*T, crops, H, W, 3)
    side = spec.image_size
    frames = rows.reshape(views, spec.num_frames, crops, side, side, 3)
    frames = frames.transpose(2, 0, 1, 3, 4, 5).reshape(-1, spec.num_frames, side, side, 3)
    return Clip(np.ascontiguousarray(frames), sampled.info)


def decode_uncropped(
    source: BinaryIO,
    spec: InputSpec,
    *,
    limits: VideoLimits | None = None,
    sampling: Literal["test", "train"] = "train",
    rng: np.random.Generator | None = None,
    threads: int = 1,
) -> Clip:
    """The whole frames with the short side resized: (1, T, h, w, 3), where augmentation begins.

    Raises as `decode_clip`, and Undecodable where the picture size changes inside the clip.
    """
    sampler = _sampler(spec, 1, sampling, rng)
    wanted = Wanted(
        None,
        None,
        sampler,
        lambda image, size: resize_short_side(image, spec, size),
        spec.pixel_aspect,
        limits or VideoLimits(),
    )
    sampled = sample_frames(source, wanted, threads, "auto")
    if len({taken.pixels.shape for taken in sampled.frames}) > 1:
        raise SizeChanges
    frames = np.stack([taken.pixels for taken in sampled.frames])
    return Clip(frames[None], sampled.info)


def _sampler(
    spec: InputSpec, views: int, sampling: str, rng: np.random.Generator | None
) -> Sampler:
    """Frame numbers as a function of the frame count alone: asked twice, it answers the same."""
    if views < 1:
        raise ValueError(f"views must be at least 1, not {views}")
    if (sampling == "train") != (rng is not None):
        raise ValueError("sampling='train' needs rng, and sampling='test' takes none")
    if rng is None:
        return lambda count: sample_indices(count, spec.num_frames, views=views)
    seed = int(rng.integers(1 << 62))
    return lambda count: sample_indices(
        count, spec.num_frames, views=views, rng=np.random.default_rng(seed)
    )
