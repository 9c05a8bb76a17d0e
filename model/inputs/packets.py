"""The packets of a video, listed without decoding: what the planner decides from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from model.inputs.bitstream import Inspector, Role, inspector_for
from model.inputs.container import OpenVideo
from model.inputs.errors import TooLarge
from model.inputs.limits import VideoLimits

# Packets of a file up to this size stay in memory between listing and decoding.
KEEP_BYTES = 32 << 20
PROGRESSIVE_OR_UNKNOWN = (0, 1)
# Containers that store the order of decoding alone; what the demuxer gives as times is a guess.
WITHOUT_TIMES = ("avi",)


@dataclass
class PacketList:
    """One entry per packet, in decoding order. Times are ticks of the stream's clock."""

    pts: list[int | None] = field(default_factory=list)
    roles: list[Role | None] = field(default_factory=list)
    discarded: list[bool] = field(default_factory=list)
    last_duration: int = 0
    kept: list[Any] | None = field(default_factory=list)
    interlaced: bool = False
    reorder_depth: int = 0
    guessed_times: bool = False

    def __len__(self) -> int:
        return len(self.pts)


def video_packets(video: OpenVideo) -> Iterator[Any]:
    """The coded packets of the chosen stream, in file order; the flush packets are left out."""
    for packet in video.container.demux(video.stream):
        if packet.size:
            yield packet


def list_packets(video: OpenVideo, limits: VideoLimits) -> PacketList:
    """Read every packet once. Raises TooLarge as soon as a limit is passed."""
    inspector: Inspector | None = inspector_for(video.context.name, video.context.extradata)
    packets = PacketList(
        interlaced=video.context.field_order not in PROGRESSIVE_OR_UNKNOWN,
        reorder_depth=video.context.reorder_depth,
        guessed_times=video.container.format.name in WITHOUT_TIMES,
    )
    within = duration_check(video, limits)
    kept_bytes = 0
    for packet in video_packets(video):
        if len(packets.pts) >= limits.max_frames:
            raise TooLarge(
                f"the video has more than {limits.max_frames} frames; cut it or send fewer "
                "frames per second",
                code="too_many_frames",
            )
        pts = packet.pts
        within(pts)
        packets.pts.append(pts)
        packets.discarded.append(packet.is_discard)
        role = None
        if inspector is not None and not packet.is_corrupt:
            role = inspector(memoryview(packet), packet.is_keyframe)
            if role is None:
                # One packet that is not plain, and the whole file will be decoded.
                inspector = None
        packets.roles.append(role)
        packets.last_duration = packet.duration or packets.last_duration
        if packets.kept is not None:
            packets.kept.append(packet)
            kept_bytes += packet.size
            if kept_bytes > KEEP_BYTES:
                packets.kept = None
    return packets


def duration_check(video: OpenVideo, limits: VideoLimits) -> Callable[[int | None], None]:
    """A function that raises once the times it is given span more than the limit."""
    longest = int(limits.max_duration_s / video.time_base)
    span: list[int] = []

    def check(pts: int | None) -> None:
        if pts is None:
            return
        if not span:
            span.extend((pts, pts))
        elif pts < span[0]:
            span[0] = pts
        elif pts > span[1]:
            span[1] = pts
        else:
            return
        if span[1] - span[0] > longest:
            raise TooLarge(
                f"the video is longer than {limits.max_duration_s:g} seconds; cut it",
                code="video_too_long",
            )

    return check
