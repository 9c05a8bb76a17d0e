"""Decode a clip: the frames that a network takes, ready for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO, Literal

import numpy as np

from model.inputs.clip import Clip, Pixels
from model.inputs.limits import VideoLimits
from model.inputs.pixels.crop import crop_frame, resize_short_side
from model.inputs.sampling import FrameRule, Segment, sample_segments
from model.inputs.spec import InputSpec
from model.inputs.video.clip_reader import Request, Sampler, Size
from model.inputs.video.sample import Plan, sample_frames
from model.inputs.work import RuleByWork, Work


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
    frame_rule: FrameRule | RuleByWork = FrameRule.EXACT,
    threads: int = 1,
    before: Callable[[Work], None] = lambda work: None,
    interrupt: Callable[[], None] = lambda: None,
    plan: Plan = "auto",
) -> Clip:
    """Sample, decode and crop a clip.

    Args:
        source: Seekable binary file; its name, if it has one, is never looked at.
        spec: What the network expects; T frames of H x H pixels.
        views: Temporal views, 1 or more.
        crops: Spatial crops, 1 (the centre) or 3 (along the long side).
        start: Seconds from the first frame; None for the beginning.
        end: Seconds from the first frame, included; None for the end.
        limits: How large the clip may be; None for the defaults.
        sampling: "test" for the published rule, "train" for random frames drawn from `rng`.
        rng: Only with `sampling="train"`.
        frame_rule: Which frame of each segment is taken, or what chooses the rule by the work that
            the exact one takes.
        threads: Threads of the decoder, 1 or more.
        before: Told what is about to be decoded; what it raises ends the reading.
        interrupt: Called before each packet; what it raises ends the reading.
        plan: "auto" decodes as little as gives the same frames, "full" decodes every frame.

    Returns:
        Clip with `frames` uint8 RGB (crops * views, T, H, H, 3), 0 to 255, not normalised.

    Raises:
        VideoError: The clip cannot be used; `code` and `detail` say why.
        ValueError: An argument is out of range.
    """
    if crops not in (1, 3):
        raise ValueError(f"crops must be 1 or 3, not {crops}")
    request = Request(
        start,
        end,
        _sampler(spec, views, sampling, rng),
        lambda image, size: crop_frame(image, spec, crops, size),
        spec.pixel_aspect,
        limits or VideoLimits(),
        frame_rule,
        before=before,
        interrupt=interrupt,
    )
    sampled = sample_frames(source, request, threads, plan)
    rows = np.stack([taken.pixels for taken in sampled.frames])  # (V*T, crops, H, W, 3)
    side = spec.image_size
    frames = rows.reshape(views, spec.num_frames, crops, side, side, 3)
    frames = frames.transpose(2, 0, 1, 3, 4, 5).reshape(-1, spec.num_frames, side, side, 3)
    return Clip(np.ascontiguousarray(frames), sampled.info, sampled.work)


def decode_uncropped(
    source: BinaryIO,
    spec: InputSpec,
    *,
    limits: VideoLimits | None = None,
    sampling: Literal["test", "train"] = "train",
    rng: np.random.Generator | None = None,
    frame_rule: FrameRule = FrameRule.EXACT,
    threads: int = 1,
) -> Clip:
    """Sample and decode whole frames with the short side resized: where augmentation begins.

    Args:
        source: Seekable binary file; its name, if it has one, is never looked at.
        spec: What the network expects; T frames, short side `resize_short_side`.
        limits: How large the clip may be; None for the defaults.
        sampling: "train" for random frames drawn from `rng`, "test" for the published rule.
        rng: Only with `sampling="train"`.
        frame_rule: Which frame of each segment is taken.
        threads: Threads of the decoder, 1 or more.

    Returns:
        Clip with `frames` uint8 RGB (1, T, h, w, 3), 0 to 255, not normalised. Where the picture
        size changes inside the clip, all frames have that of the first sampled one.

    Raises:
        VideoError: The clip cannot be used; `code` and `detail` say why.
        ValueError: An argument is out of range.
    """
    request = Request(
        None,
        None,
        _sampler(spec, 1, sampling, rng),
        lambda image, size: resize_short_side(image, spec, size),
        spec.pixel_aspect,
        limits or VideoLimits(),
        frame_rule,
    )
    sampled = sample_frames(source, request, threads, "auto")
    frames = np.stack([taken.pixels for taken in sampled.frames])
    return Clip(frames[None], sampled.info, sampled.work)


def decode_for_several(
    source: BinaryIO,
    specs: Sequence[InputSpec],
    *,
    limits: VideoLimits | None = None,
    frame_rule: FrameRule = FrameRule.EXACT,
) -> list[Pixels]:
    """Sample and crop a clip for several networks, decoding it once.

    Args:
        source: Seekable binary file; its name, if it has one, is never looked at.
        specs: What each network expects.
        limits: How large the clip may be; None for the defaults.
        frame_rule: Which frame of each segment is taken.

    Returns:
        For each spec what `decode_clip` gives: uint8 RGB (1, T, H, H, 3).

    Raises:
        VideoError: The clip cannot be used; `code` and `detail` say why.
    """
    if len({spec.pixel_aspect for spec in specs}) > 1:  # the frames themselves would differ
        return [
            decode_clip(source, spec, limits=limits, frame_rule=frame_rule).frames for spec in specs
        ]
    samplers = [_sampler(spec, 1, "test", None) for spec in specs]
    sizes = np.cumsum([spec.image_size**2 * 3 for spec in specs])[:-1]

    def finish(image: Pixels, shown_at: Size) -> Pixels:
        return np.concatenate([crop_frame(image, s, 1, shown_at).ravel() for s in specs])

    def sampler(count: int, rule: FrameRule) -> list[Segment]:
        return [segment for sample in samplers for segment in sample(count, rule)]

    request = Request(
        None,
        None,
        sampler,
        finish,
        specs[0].pixel_aspect,
        limits or VideoLimits(),
        frame_rule,
    )
    rows = [np.split(t.pixels, sizes) for t in sample_frames(source, request, 1, "auto").frames]
    frames, first = [], 0
    for index, spec in enumerate(specs):
        own = [row[index] for row in rows[first : first + spec.num_frames]]
        first += spec.num_frames
        side = spec.image_size
        frames.append(np.stack(own).reshape(1, spec.num_frames, side, side, 3))
    return frames


def _sampler(
    spec: InputSpec, views: int, sampling: str, rng: np.random.Generator | None
) -> Sampler:
    """Make a sampler that depends on frame count and rule alone: asked twice, it answers alike."""
    if views < 1:
        raise ValueError(f"views must be at least 1, not {views}")
    if (sampling == "train") != (rng is not None):
        raise ValueError("sampling='train' needs rng, and sampling='test' takes none")
    seed = None if rng is None else int(rng.integers(1 << 62))

    def sampler(count: int, rule: FrameRule) -> list[Segment]:
        draw = None if seed is None else np.random.default_rng(seed)
        return sample_segments(
            count, spec.num_frames, spacing=spec.frame_rule, views=views, rng=draw, rule=rule
        )

    return sampler
