"""Decode a clip: the frames a network wants, and as little else of the file as is exact.

First the packets are listed without decoding. Where they prove what each of them shows, only the
stretches that hold wanted frames are decoded; else everything is. Both ways give the same frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Literal

import numpy as np

from model.inputs.clip import Clip, Pixels, VideoInfo
from model.inputs.container import OpenVideo, check_picture, open_video
from model.inputs.errors import TooLarge, Undecodable, VideoError
from model.inputs.frames import NotAsPlanned, decode_all, decode_runs
from model.inputs.limits import VideoLimits
from model.inputs.packets import PacketList, list_packets, video_packets
from model.inputs.picture import displayed_size, upright_rgb
from model.inputs.pixels import crop_frame, resize_short_side
from model.inputs.planner import Schedule, runs, schedule
from model.inputs.reread import kept_packets, reread_packets
from model.inputs.sampling import Indices, sample_indices
from model.inputs.spec import InputSpec, PixelAspect
from model.inputs.timeline import select_range, shown_times

Size = tuple[int, int]
Finish = Callable[[Pixels, Size], Pixels]
Sampler = Callable[[int], Indices]
Plan = Literal["auto", "full"]
Reopen = Callable[[], AbstractContextManager[OpenVideo]]


@dataclass(frozen=True)
class Taken:
    """One wanted frame, finished, and the (height, width) at which a player shows it."""

    pixels: Pixels
    displayed: Size


@dataclass(frozen=True)
class Wanted:
    """Which part of the clip to look at, where in it, and what to make of each frame."""

    start: float | None
    end: float | None
    sampler: Sampler
    finish: Finish
    pixel_aspect: PixelAspect
    limits: VideoLimits


@dataclass(frozen=True)
class Sampled:
    """The sampled frames in order, with their times, and what the stream turned out to be."""

    frames: list[Taken]
    times: tuple[float, ...]
    info: VideoInfo


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
    sampled = _sample(source, wanted, threads, plan)
    rows = np.stack([taken.pixels for taken in sampled.frames])  # (V*T, crops, H, W, 3)
    side = spec.image_size
    frames = rows.reshape(views, spec.num_frames, crops, side, side, 3)
    frames = frames.transpose(2, 0, 1, 3, 4, 5).reshape(-1, spec.num_frames, side, side, 3)
    return Clip(np.ascontiguousarray(frames), sampled.info, sampled.times)


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
    sampled = _sample(source, wanted, threads, "auto")
    if len({taken.pixels.shape for taken in sampled.frames}) > 1:
        raise Undecodable("the picture size changes inside this video; re-encode it")
    frames = np.stack([taken.pixels for taken in sampled.frames])
    return Clip(frames[None], sampled.info, sampled.times)


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


def _sample(source: BinaryIO, wanted: Wanted, threads: int, plan: Plan) -> Sampled:
    limits = wanted.limits
    reopen = partial(open_video, source, limits, threads)
    with reopen() as video:
        packets = list_packets(video, limits)
        order = schedule(packets) if plan == "auto" else None
        if order is not None:
            with suppress(NotAsPlanned):
                return _sample_planned(video, packets, order, wanted, reopen)
        elif packets.kept is not None:
            return _sample_all(video, packets.kept, packets, wanted, reopen)
    with reopen() as fresh:
        return _sample_all(fresh, video_packets(fresh), packets, wanted, reopen)


def _sample_planned(
    video: OpenVideo, packets: PacketList, order: Schedule, wanted: Wanted, reopen: Reopen
) -> Sampled:
    times = shown_times(order.pts, video.time_base, video.frame_step_s)
    picks = _picks(times, wanted)
    numbers = [order.order[i] for i in picks]
    stretches = runs(packets, numbers)
    if packets.kept is not None:
        coded = kept_packets(packets, stretches)
        taken = decode_runs(video, packets, stretches, coded, _taker(video, wanted))
    else:
        with reopen() as fresh:
            coded = reread_packets(fresh, packets, stretches)
            taken = decode_runs(fresh, packets, stretches, coded, _taker(fresh, wanted))
    return _sampled(video, packets, times, picks, [taken[n] for n in numbers], wanted)


def _sample_all(
    video: OpenVideo,
    coded: Iterable[Any],
    packets: PacketList,
    wanted: Wanted,
    reopen: Reopen,
) -> Sampled:
    """Decode the whole file. The frame count is known only afterwards, so the frames that the
    packet count calls for are kept on the way; a second pass is needed only where it was wrong.
    """
    limits = wanted.limits
    hoped = set(_hoped_for(video, packets, wanted))
    ticks, taken = decode_all(video, coded, limits, hoped, _taker(video, wanted))
    if not ticks:
        raise Undecodable("no picture of this video could be decoded; send another file")
    times = shown_times(ticks, video.time_base, video.frame_step_s)
    picks = _picks(times, wanted)
    if not taken.keys() >= set(picks):
        with reopen() as fresh:
            take = _taker(fresh, wanted)
            _, taken = decode_all(fresh, video_packets(fresh), limits, set(picks), take)
    return _sampled(video, packets, times, picks, [taken[i] for i in picks], wanted)


def _hoped_for(video: OpenVideo, packets: PacketList, wanted: Wanted) -> list[int]:
    ticks = [t for t, gone in zip(packets.pts, packets.discarded, strict=True) if not gone]
    if not ticks:
        return []
    times = shown_times(ticks, video.time_base, video.frame_step_s)
    with suppress(VideoError):
        return _picks(times, wanted)
    return []


def _picks(times: Sequence[float], wanted: Wanted) -> list[int]:
    """The numbers of the sampled frames, view by view."""
    inside = select_range(times, wanted.start, wanted.end)
    picks: list[int] = (wanted.sampler(len(inside)) + inside.start).ravel().tolist()
    return picks


def _taker(video: OpenVideo, wanted: Wanted) -> Callable[[Any], Taken]:
    """Turn a decoder's picture into a finished frame."""

    def take(frame: Any) -> Taken:
        check_picture(frame.width, frame.height, wanted.limits)
        displayed = displayed_size(frame, video.pixel_aspect)
        if max(displayed) > wanted.limits.max_side:
            raise TooLarge(
                f"the picture is shown at {displayed[1]}x{displayed[0]}; at most "
                f"{wanted.limits.max_side} a side are accepted: scale the video down",
                code="resolution_too_large",
            )
        image = upright_rgb(frame)
        height, width = displayed if wanted.pixel_aspect == "displayed" else image.shape[:2]
        return Taken(wanted.finish(image, (height, width)), displayed)

    return take


def _sampled(
    video: OpenVideo,
    packets: PacketList,
    times: Sequence[float],
    picks: Sequence[int],
    frames: list[Taken],
    wanted: Wanted,
) -> Sampled:
    last = float(packets.last_duration * video.time_base) or video.frame_step_s
    duration = times[-1] + last
    height, width = frames[0].displayed
    info = VideoInfo(
        duration_s=round(duration, 6),
        fps=round(len(times) / duration, 3) if duration > 0 else None,
        width=width,
        height=height,
        codec=video.codec,
        frames=len(select_range(times, wanted.start, wanted.end)),
    )
    return Sampled(frames, tuple(times[i] for i in picks), info)
