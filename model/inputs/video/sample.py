"""Fetch the sampled frames of a clip, decoding as little of it as is exact.

Long mp4 files are sampled from their index. Of others the packets are listed without decoding;
where they prove what each of them shows, only the stretches that hold wanted frames are decoded.
Anything else is decoded whole. All three ways give the same frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Literal

from model.inputs.clip import Pixels, VideoInfo
from model.inputs.errors import NoPicture, ShownTooLarge, VideoError
from model.inputs.limits import VideoLimits
from model.inputs.sampling import Indices
from model.inputs.spec import PixelAspect
from model.inputs.video.container import OpenVideo, check_picture, open_video
from model.inputs.video.frames import NotAsPlanned, decode_all, decode_runs
from model.inputs.video.indexed import Index, decode_indexed, read_index
from model.inputs.video.packet_reader import kept_packets, reread_packets
from model.inputs.video.packets import PacketList, list_packets, video_packets
from model.inputs.video.picture import displayed_size, upright_rgb
from model.inputs.video.planner import Schedule, runs, schedule
from model.inputs.video.source import SharedFile
from model.inputs.video.timeline import seconds, select_range, shown_times

# A plan that leaves out less than this share is not worth its one blind spot (see planner).
WORTH_PLANNING = 0.9

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
    """The sampled frames in order, and the facts of the clip."""

    frames: list[Taken]
    info: VideoInfo


@dataclass(frozen=True)
class Extent:
    """How much of a clip there is: all its frames, those in the asked range, the time of the last
    frame in seconds and its duration in ticks.
    """

    frames: int
    inside: int
    last_time: float
    last_duration: int


def sample_frames(source: BinaryIO, wanted: Wanted, threads: int, plan: Plan) -> Sampled:
    """The wanted frames of a clip. Raises a VideoError where it cannot be used."""
    reopen = partial(open_video, SharedFile(source), wanted.limits, threads)
    with reopen() as video:
        whole = wanted.start is None and wanted.end is None
        index = read_index(video, wanted.limits) if whole and plan == "auto" else None
        if index is None:
            return _sample_listed(video, wanted, reopen, plan)
        with suppress(NotAsPlanned):
            return _sample_indexed(video, index, wanted, reopen, threads)
    with reopen() as fresh:
        return _sample_listed(fresh, wanted, reopen, plan)


def _sample_indexed(
    video: OpenVideo, index: Index, wanted: Wanted, reopen: Reopen, threads: int
) -> Sampled:
    picks = wanted.sampler(index.frames).ravel().tolist()
    found = decode_indexed(video, index, picks, partial(_taker, wanted=wanted), reopen, threads)
    ticks = [*(found.ticks[n] for n in picks), found.last_tick]
    *times, last = (seconds(t, found.first_tick, video.time_base) for t in ticks)
    extent = Extent(index.frames, index.frames, last, index.packets.last_duration)
    return _sampled(video, extent, times, [found.taken[n] for n in picks])


def _sample_listed(video: OpenVideo, wanted: Wanted, reopen: Reopen, plan: Plan) -> Sampled:
    packets = list_packets(video, wanted.limits)
    order = schedule(packets) if plan == "auto" else None
    if order is not None:
        with suppress(NotAsPlanned):
            sampled = _sample_planned(video, packets, order, wanted, reopen)
            if sampled is not None:
                return sampled
    if packets.kept is not None and not video.context.is_open:
        return _sample_all(video, packets.kept, packets, wanted, reopen)
    with reopen() as fresh:
        return _sample_all(fresh, video_packets(fresh), packets, wanted, reopen)


def _sample_planned(
    video: OpenVideo, packets: PacketList, order: Schedule, wanted: Wanted, reopen: Reopen
) -> Sampled | None:
    """None where the plan would decode nearly everything: then everything is as good, and sure."""
    times = shown_times(order.pts, video.time_base, video.frame_step_s)
    picks = _picks(times, wanted)
    numbers = [order.order[i] for i in picks]
    stretches = runs(packets, numbers)
    if sum(len(run.packets) for run in stretches) > WORTH_PLANNING * len(packets):
        return None
    if packets.kept is not None:
        coded = kept_packets(packets, stretches)
        taken = decode_runs(video, packets, stretches, coded, _taker(video, wanted))
    else:
        with reopen() as fresh:
            coded = reread_packets(fresh, packets, stretches)
            taken = decode_runs(fresh, packets, stretches, coded, _taker(fresh, wanted))
    extent = _extent(packets, times, wanted)
    return _sampled(video, extent, [times[i] for i in picks], [taken[n] for n in numbers])


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
        raise NoPicture
    times = shown_times(ticks, video.time_base, video.frame_step_s)
    picks = _picks(times, wanted)
    if not taken.keys() >= set(picks):
        with reopen() as fresh:
            take = _taker(fresh, wanted)
            _, taken = decode_all(fresh, video_packets(fresh), limits, set(picks), take)
    extent = _extent(packets, times, wanted)
    return _sampled(video, extent, [times[i] for i in picks], [taken[i] for i in picks])


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
            raise ShownTooLarge(
                width=displayed[1], height=displayed[0], max_side=wanted.limits.max_side
            )
        image = upright_rgb(frame)
        height, width = displayed if wanted.pixel_aspect == "displayed" else image.shape[:2]
        return Taken(wanted.finish(image, (height, width)), displayed)

    return take


def _extent(packets: PacketList, times: Sequence[float], wanted: Wanted) -> Extent:
    inside = len(select_range(times, wanted.start, wanted.end))
    return Extent(len(times), inside, times[-1], packets.last_duration)


def _sampled(
    video: OpenVideo, extent: Extent, times: Sequence[float], frames: list[Taken]
) -> Sampled:
    last_frame = float(extent.last_duration * video.time_base) or video.frame_step_s
    duration = extent.last_time + last_frame
    height, width = frames[0].displayed
    info = VideoInfo(
        duration_s=round(duration, 6),
        fps=round(extent.frames / duration, 3) if duration > 0 else None,
        width=width,
        height=height,
        codec=video.codec,
        frames=extent.inside,
        frame_times_s=tuple(times),
    )
    return Sampled(frames, info)
