"""Fetch the sampled frames of a clip, decoding as little of it as is exact.

Three ways are tried in order. Long mp4 files are sampled from their index. Of others the packets
are listed without decoding; where they prove what each of them shows, only the stretches that hold
sampled frames are decoded. Anything else is decoded whole. All three give the same frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO, Literal

from model.inputs.clip import VideoInfo
from model.inputs.errors import NoPicture, VideoError
from model.inputs.video.clip_reader import ClipReader, NotAsPlanned, Request, Sampled, Taken
from model.inputs.video.container import OpenVideo, packets_of
from model.inputs.video.frames import decode_all, decode_runs
from model.inputs.video.indexed import decode_indexed, read_index
from model.inputs.video.packet_reader import packets_from_file, packets_from_memory
from model.inputs.video.packets import PacketList
from model.inputs.video.planner import runs, schedule
from model.inputs.video.source import SharedFile
from model.inputs.video.timeline import check_duration, select_range

# A plan that leaves out less than this share is not worth its one blind spot (see planner).
WORTH_PLANNING = 0.9

Plan = Literal["auto", "full"]
Strategy = Callable[[ClipReader], Sampled]


def sample_frames(source: BinaryIO, request: Request, threads: int, plan: Plan) -> Sampled:
    """The requested frames of a clip, all for the size at which the first of them is shown.

    Raises:
        VideoError: The clip cannot be used.
    """
    file = SharedFile(source)
    sampled = _sample(file, request, threads, plan)
    shown_at = sampled.frames[0].shown_at
    if any(frame.shown_at != shown_at for frame in sampled.frames):
        return _sample(file, replace(request, shown_at=shown_at), threads, plan)
    return sampled


def _sample(file: SharedFile, request: Request, threads: int, plan: Plan) -> Sampled:
    with ClipReader(file, request, threads) as reader:
        for strategy in (sample_indexed, sample_planned) if plan == "auto" else ():
            with suppress(NotAsPlanned):
                return strategy(reader)
        return sample_all(reader)


def sample_indexed(reader: ClipReader) -> Sampled:
    """From the index of an mp4, which is asked about as a whole."""
    index = read_index(reader.video, reader.request.limits) if reader.request.is_whole else None
    if index is None:
        raise NotAsPlanned
    video, picks = reader.rewound(), reader.request.sampler(index.frames).ravel().tolist()
    result = decode_indexed(reader, video, index, picks)
    *times, last = (
        video.clock.seconds(tick, result.first_tick)
        for tick in (*(result.ticks[n] for n in picks), result.last_tick)
    )
    frames = [result.taken[n] for n in picks]
    return _sampled(video, frames, times, (index.frames, index.frames), last, result.last_duration)


def sample_planned(reader: ClipReader) -> Sampled:
    """From a list of packets that tells what each of them shows. A plan that would decode nearly
    everything is none: then everything is as good, and sure.
    """
    video, packets = reader.listing
    request = reader.request
    order = schedule(packets)
    if order is None:
        raise NotAsPlanned
    times = video.clock.shown_times(order.pts)
    check_duration(times, request.limits)
    picks = request.picks(times)
    numbers = [order.order[i] for i in picks]
    stretches = runs(packets, numbers)
    if sum(len(run.packets) for run in stretches) > WORTH_PLANNING * len(packets):
        raise NotAsPlanned
    if packets.kept is not None:
        coded = packets_from_memory(packets, stretches)
    else:
        video = reader.rewound()
        coded = packets_from_file(video, packets, stretches)
    taken = decode_runs(video, packets, stretches, coded, reader.taker(video))
    return _sampled_of(reader, times, picks, [taken[n] for n in numbers])


def sample_all(reader: ClipReader) -> Sampled:
    """Decode the whole file. The frame count is known only afterwards, so the frames that the
    packet count calls for are kept on the way; a second pass is needed only where it was wrong.
    """
    video, packets = reader.listing
    request = reader.request
    likely = set(_likely_picks(video, packets, request))
    if packets.kept is not None and not video.context.is_open:
        coded = iter(packets.kept)
    else:
        video = reader.rewound()
        coded = packets_of(video)
    ticks, taken = decode_all(video, coded, request.limits, likely, reader.taker(video))
    if not ticks:
        raise NoPicture
    times = video.clock.shown_times(ticks)
    check_duration(times, request.limits)
    picks = request.picks(times)
    if not taken.keys() >= set(picks):
        again = reader.rewound()
        take = reader.taker(again)
        _, taken = decode_all(again, packets_of(again), request.limits, set(picks), take)
    return _sampled_of(reader, times, picks, [taken[i] for i in picks])


def _likely_picks(video: OpenVideo, packets: PacketList, request: Request) -> list[int]:
    ticks = [t for t, gone in zip(packets.pts, packets.discarded, strict=True) if not gone]
    if not ticks:
        return []
    times = video.clock.shown_times(ticks)
    check_duration(times, request.limits)
    with suppress(VideoError):
        return request.picks(times)
    return []


def _sampled_of(
    reader: ClipReader, times: Sequence[float], picks: list[int], frames: list[Taken]
) -> Sampled:
    request = reader.request
    inside = len(select_range(times, request.start, request.end))
    counts = len(times), inside
    picked = [times[i] for i in picks]
    video, packets = reader.listing
    return _sampled(video, frames, picked, counts, times[-1], packets.last_duration)


def _sampled(
    video: OpenVideo,
    frames: list[Taken],
    times: Sequence[float],
    counts: tuple[int, int],
    last_time: float,
    last_duration: int,
) -> Sampled:
    """`counts` are the frames of the clip and those in the requested range; `last_duration` is in
    ticks.
    """
    total, inside = counts
    duration = last_time + video.clock.last_frame_s(last_duration, last_time, total)
    height, width = frames[0].displayed
    info = VideoInfo(
        duration_s=round(duration, 6),
        fps=round(total / duration, 3) if duration > 0 else None,
        width=width,
        height=height,
        codec=video.codec,
        frames=inside,
        frame_times_s=tuple(times),
        warnings=video.warnings,
    )
    return Sampled(frames, info)
