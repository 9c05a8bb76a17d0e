"""Fetch the sampled frames of a clip, decoding as little of it as is exact.

Three ways are tried in order. Long mp4 files are sampled from their index. Of others the packets
are listed without decoding; where they prove what each of them shows, only the stretches that hold
sampled frames are decoded. Anything else is decoded whole. All three give the same frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Literal

from model.inputs.clip import VideoInfo, VideoWarning, bounded
from model.inputs.errors import NoPackets, NoPicture, VideoError
from model.inputs.sampling import FrameRule, Indices, Segment
from model.inputs.video.bitstream import inspector_for
from model.inputs.video.clip_reader import ClipReader, NotAsPlanned, Request, Sampled, Taken
from model.inputs.video.container import OpenVideo, packets_of
from model.inputs.video.frames import decode_all, decode_runs
from model.inputs.video.indexed import Index, decode_indexed, read_index
from model.inputs.video.packet_reader import can_jump_back, packets_from_file, packets_from_memory
from model.inputs.video.packets import KEEP_BYTES, PacketList
from model.inputs.video.planner import Run, pictures_of, pictures_to_decode, runs, schedule
from model.inputs.video.source import SharedFile
from model.inputs.video.timeline import check_duration, select_range
from model.inputs.work import Work

# A plan that leaves out less than this share is not worth its one blind spot (see planner).
WORTH_PLANNING = 0.95
# In stretches of fewer pictures the threads of a decoder have no time to work side by side.
LONG_RUN = 8
# So many stretches for each thread are shared out well: a thread then waits for no other.
RUNS_PER_THREAD = 2

Plan = Literal["auto", "full"]
Strategy = Callable[[ClipReader], Sampled]


def sample_frames(source: BinaryIO, request: Request, threads: int, plan: Plan) -> Sampled:
    """Return the requested frames of a clip, all for the size at which the first of them is shown.

    Raises:
        VideoError: The clip cannot be used.
    """
    file = SharedFile(source)
    sampled = _sample(file, request, threads, plan)
    shown_at = sampled.frames[0].shown_at
    if any(frame.shown_at != shown_at for frame in sampled.frames):
        return _sample(file, replace(request, shown_at=shown_at), threads, plan)
    return sampled


def _sample(
    file: SharedFile, request: Request, threads: int, plan: Plan, probe: bool = False
) -> Sampled:
    planned = (sample_indexed, sample_planned) if plan == "auto" else ()
    with ClipReader(file, request, threads, probe) as reader:
        # A plan proves itself, so it may be made of what the headers tell.
        is_probed = reader.is_probed
        for strategy in (*planned, sample_all) if is_probed else planned:
            with suppress(NotAsPlanned):
                return strategy(reader)
    if not is_probed:
        return _sample(file, request, threads, plan, probe=True)
    # Of damaged pictures the threads of a decoder lose others than one thread does.
    return _sample(file, request, 1, "full", probe=True)


def sample_indexed(reader: ClipReader) -> Sampled:
    """Sample by the index of an mp4, where the whole clip is asked for."""
    index = read_index(reader.video, reader.request.limits) if reader.request.is_whole else None
    if index is None:
        raise NotAsPlanned
    rule, segments = _begun(reader, index)
    video = reader.rewound()
    result = decode_indexed(reader, video, index, segments)
    *times, last = (
        video.clock.seconds(tick, result.first_tick)
        for tick in (*(result.ticks[n] for n in result.picks), result.last_tick)
    )
    facts = Facts((index.frames, index.frames), last, result.last_duration, rule)
    frames = [result.taken[n] for n in result.picks]
    return _sampled(reader, frames, times, facts, reader.work(result.pictures, rule))


def _begun(reader: ClipReader, index: Index) -> tuple[FrameRule, list[Segment]]:
    """Choose the rule and the segments, and tell what is about to be decoded."""
    sampler = reader.request.sampler
    exact = sampler(index.frames, FrameRule.EXACT)
    rule = reader.rule(lambda: index.pictures_to_decode(s.aim for s in exact))
    segments = sampler(index.frames, rule)
    reader.begin(index.pictures_to_decode(index.narrowed(s).aim for s in segments), rule)
    return rule, segments


def sample_planned(reader: ClipReader) -> Sampled:
    """Sample by a list of packets that tells what each of them shows. A plan that would decode
    nearly everything is none: then everything is as good, and sure.
    """
    context = reader.video.context
    if inspector_for(context.name, context.extradata) is None:
        raise NotAsPlanned
    request = reader.request
    if request.is_whole and reader.video.source.size > KEEP_BYTES:
        # Who puts off what takes long shall not wait until a large file is read through.
        # Of many packets, `sample_indexed` has told.
        index = read_index(reader.video, request.limits, few=True)
        if index is not None:
            _begun(reader, index)
    video, packets = reader.listing
    order = schedule(packets)
    if order is None:
        raise NotAsPlanned
    times = video.clock.shown_times(order.pts)
    check_duration(times, request.limits)

    def plan(rule: FrameRule) -> tuple[list[int], list[Run]]:
        keyed = rule is FrameRule.KEYFRAMES
        costs = pictures_to_decode(packets, order.order) if keyed else None
        picks = request.picks(times, rule, costs)
        return picks, runs(packets, (order.order[i] for i in picks))

    rule = reader.rule(lambda: pictures_of(plan(FrameRule.EXACT)[1]))
    picks, stretches = plan(rule)
    pictures = pictures_of(stretches)
    if pictures > WORTH_PLANNING * len(packets):
        raise NotAsPlanned
    work = reader.begin(pictures, rule)
    if packets.kept is None and not can_jump_back(video, packets, stretches):
        video = reader.rewound()
    taken = _decoded(reader, video, packets, stretches)
    frames = [taken[order.order[i]] for i in picks]
    return _sampled_of(reader, times, picks, frames, rule, work)


def _decoded(
    reader: ClipReader, video: OpenVideo, packets: PacketList, stretches: Sequence[Run]
) -> dict[int, Taken]:
    """Decode all stretches, shared out; few and long ones by the threads of one decoder."""

    def decode(own: OpenVideo, share: Sequence[Run]) -> dict[int, Taken]:
        coded = _coded(own, packets, share)
        return decode_runs(own, packets, share, coded, reader.taker(own))

    longest = max(stretches, key=lambda run: len(run.packets))
    others = [run for run in stretches if run is not longest]
    few = len(stretches) < RUNS_PER_THREAD * reader.threads
    if not few or len(longest.packets) < LONG_RUN:
        parts = reader.in_shares(video, stretches, decode)
    elif others and pictures_of(others) * reader.threads <= len(longest.packets):
        # Threads of one decoder wait for each other: there is time for a short piece beside them.
        parts = reader.side_by_side(video, [[longest], others], decode)
    else:
        parts = [decode(video, stretches)]
    return {number: frame for part in parts for number, frame in part.items()}


def _coded(video: OpenVideo, packets: PacketList, stretches: Sequence[Run]) -> Iterator[Any]:
    if packets.kept is not None:
        return packets_from_memory(packets, stretches)
    position = None if can_jump_back(video, packets, stretches) else 0
    return packets_from_file(video, packets, stretches, position)


def sample_all(reader: ClipReader) -> Sampled:
    """Decode the whole file. The frame count is known only afterwards, so the frames that the
    packet count calls for are kept on the way; a second pass is needed only where it was wrong.

    Raises NotAsPlanned where threads meet damage.
    """
    video, packets = reader.listing
    request = reader.request
    rule = request.rule_where_all_is_decoded
    costs = _costs(packets) if rule is FrameRule.KEYFRAMES else None
    likely = set(_likely_picks(video, packets, request, costs))
    reader.begin(len(packets))
    if packets.kept is not None and not video.context.is_open:
        coded = iter(packets.kept)
    else:
        video = reader.rewound()
        coded = packets_of(video)
    ticks, taken = decode_all(video, coded, request.limits, likely, reader.taker(video))
    if not ticks:
        raise NoPicture if len(packets) else NoPackets
    times = video.clock.shown_times(ticks)
    check_duration(times, request.limits)
    if costs is not None and len(costs) != len(times):
        costs = None  # the packets do not show what they said
    picks = request.picks(times, rule, costs)
    if not taken.keys() >= set(picks):
        again = reader.rewound()
        take = reader.taker(again)
        _, taken = decode_all(again, packets_of(again), request.limits, set(picks), take)
    work = reader.work(len(times))  # whatever the rule, of all pictures
    return _sampled_of(reader, times, picks, [taken[i] for i in picks], rule, work)


def _costs(packets: PacketList) -> Indices | None:
    """Count the pictures to decode for each frame alone; None where the packets do not tell."""
    order = schedule(packets)
    return None if order is None else pictures_to_decode(packets, order.order)


def _likely_picks(
    video: OpenVideo, packets: PacketList, request: Request, costs: Indices | None
) -> list[int]:
    ticks = [t for t, gone in zip(packets.pts, packets.discarded, strict=True) if not gone]
    if not ticks:
        return []
    times = video.clock.shown_times(ticks)
    check_duration(times, request.limits)
    if costs is not None and len(costs) != len(times):
        costs = None
    with suppress(VideoError):
        return request.picks(times, request.rule_where_all_is_decoded, costs)
    return []


@dataclass(frozen=True)
class Facts:
    """What is known of a clip once it is read.

    `counts` are the frames of the clip and those in the requested range, `last_time` is in seconds,
    `last_duration` in ticks; `has_hole` where a large part of the file holds nothing of the clip.
    """

    counts: tuple[int, int]
    last_time: float
    last_duration: int
    rule: FrameRule
    has_hole: bool = False


def _sampled_of(
    reader: ClipReader,
    times: Sequence[float],
    picks: list[int],
    frames: list[Taken],
    rule: FrameRule,
    work: Work,
) -> Sampled:
    request = reader.request
    inside = len(select_range(times, request.start, request.end))
    picked = [times[i] for i in picks]
    _, packets = reader.listing
    facts = Facts((len(times), inside), times[-1], packets.last_duration, rule, packets.has_hole)
    return _sampled(reader, frames, picked, facts, work)


def _sampled(
    reader: ClipReader, frames: list[Taken], times: Sequence[float], facts: Facts, work: Work
) -> Sampled:
    video = reader.video
    total, inside = facts.counts
    duration = facts.last_time + video.clock.last_frame_s(
        facts.last_duration, facts.last_time, total
    )
    height, width = frames[0].displayed
    info = VideoInfo(
        duration_s=bounded(duration, 6),
        fps=bounded(total / duration, 3) if duration > 0 else None,
        width=width,
        height=height,
        codec=video.codec,
        frames=inside,
        frame_rule=facts.rule,
        frame_times_s=tuple(times),
        warnings=video.warnings + ((VideoWarning.HOLE,) if facts.has_hole else ()),
    )
    return Sampled(frames, info, work)
