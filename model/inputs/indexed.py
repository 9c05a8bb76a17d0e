"""Long mp4 files: sample from the file's own index, without reading the file through.

The index of an mp4 lists every packet in decoding order, with its place and size but without the
time it is shown at. The packets between one entry and the next (a *group*) are shown in one
stretch, so the group tells which wanted frames it holds, and the group alone is read to tell which
packets they are. What reading it all would show is checked as far as the index allows: every
packet lies inside the file and begins as one plain picture.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import av

from model.inputs.bitstream import inspector_for
from model.inputs.bitstream.role import ENTRY, HEAD_BYTES, HIDDEN, Inspector, Role
from model.inputs.container import OpenVideo
from model.inputs.frames import NotAsPlanned, Take, decode_runs
from model.inputs.limits import VideoLimits
from model.inputs.packets import (
    KEEP_BYTES,
    PacketList,
    duration_check,
    too_many_frames,
    video_packets,
)
from model.inputs.planner import Schedule, runs, schedule

# Below this many packets reading them all is as fast, and sees more.
FEWEST_PACKETS = 1000
ReadAt = Callable[[int, int], bytes]


@dataclass(frozen=True)
class Index:
    """Every packet of a file by its index: times of decoding in ticks, and roles.

    `groups` are the packet numbers of the entries, the number of packets at the end.
    """

    dts: list[int]
    packets: PacketList
    groups: list[int]

    @property
    def frames(self) -> int:
        """The number of pictures that the file shows."""
        return len(self.dts)


def read_index(video: OpenVideo, limits: VideoLimits) -> Index | None:
    """The index, or None where the file has none that tells enough."""
    entries = video.stream.index_entries
    read_at = _reader(video.source)
    inspector = inspector_for(video.context.name, video.context.extradata)
    if video.demuxer != "mov" or len(entries) < FEWEST_PACKETS:
        return None
    if len(entries) > limits.max_frames:
        raise too_many_frames(limits)
    packets = PacketList.empty(video)
    if inspector is None or read_at is None or packets.interlaced:
        return None
    end = video.container.size
    check_duration = duration_check(video, limits)
    dts: list[int] = []
    for entry in entries:
        time, place, size, key = entry.timestamp, entry.pos, entry.size, entry.is_keyframe
        check_duration(time)
        if entry.is_discard or size <= 0 or place + size > end or (dts and time <= dts[-1]):
            return None
        role = _role(inspector, read_at, place, size, key)
        if role is None or role & HIDDEN or (not dts and not role & ENTRY):
            return None
        dts.append(time)
        packets.roles.append(role)
    packets.pts = [None] * len(dts)
    packets.discarded = [False] * len(dts)
    groups = [i for i, role in enumerate(packets.roles) if role is not None and role & ENTRY]
    return Index(dts, packets, [*groups, len(dts)])


def _role(inspector: Inspector, read_at: ReadAt, place: int, size: int, key: bool) -> Role | None:
    role = None if key else inspector.glance(read_at(place, HEAD_BYTES), size)
    if role is None:
        data = read_at(place, size)
        role = inspector(memoryview(data), key) if len(data) == size else None
    return role


def _reader(source: BinaryIO) -> ReadAt | None:
    """Read at a place without moving the file, which the demuxer has its own place in."""
    try:
        descriptor = source.fileno()
    except (AttributeError, OSError):
        descriptor = None
    if descriptor is not None:
        return lambda place, size: os.pread(descriptor, size, place)
    if hasattr(source, "getbuffer"):
        view = source.getbuffer()
        return lambda place, size: bytes(view[place : place + size])
    return None


@dataclass(frozen=True)
class Decoded:
    """What `take` made of the wanted frames and when they are shown, by frame number; and the
    times of the first and the last frame of the file. All times are ticks.
    """

    taken: dict[int, Any]
    ticks: dict[int, int]
    first_tick: int
    last_tick: int


class GroupReader:
    """Reads groups of an indexed file and decodes what is wanted of them.

    Raises NotAsPlanned where a group is not what the index promised.
    """

    def __init__(self, video: OpenVideo, index: Index) -> None:
        self._video = video
        self._index = index
        self._shift = 0

    def decode(self, wanted: Sequence[int], take: Take) -> Decoded:
        """Decode the frames with the `wanted` numbers, in the order shown."""
        last = len(self._index.groups) - 2
        groups: dict[int, list[int]] = {0: [], last: []}
        for number in sorted(set(wanted)):
            groups.setdefault(bisect_right(self._index.groups, number) - 1, []).append(number)
        taken: dict[int, Any] = {}
        ticks: dict[int, int] = {}
        spans: dict[int, tuple[int, int]] = {}
        for group in sorted(groups):
            first = self._index.groups[group]
            order, coded = self._read(group)
            numbers = {first + order.order[n - first]: n for n in groups[group]}
            stretches = runs(self._index.packets, numbers)
            needed = (coded[i - first] for run in stretches for i in run.packets)
            found = decode_runs(self._video, self._index.packets, stretches, needed, take)
            taken |= {numbers[i]: result for i, result in found.items()}
            ticks |= {n: order.pts[n - first] for n in groups[group]}
            spans[group] = (order.pts[0], order.pts[-1])
        return Decoded(taken, ticks, spans[0][0], spans[last][1])

    def _read(self, group: int) -> tuple[Schedule, list[Any]]:
        """The packets of a group, and which of them is shown when; numbers count from its first."""
        first, end = self._index.groups[group : group + 2]
        packets = self._index.packets
        coded = self._packets(first, end)
        part = PacketList(
            pts=[p.pts for p in coded],
            roles=packets.roles[first:end],
            discarded=[p.is_discard or p.is_corrupt for p in coded],
            reorder_depth=packets.reorder_depth,
        )
        order = schedule(part)
        if order is None or len(order.order) != end - first:
            raise NotAsPlanned
        packets.pts[first:end] = part.pts
        packets.last_duration = coded[-1].duration or packets.last_duration
        return order, coded

    def _packets(self, first: int, end: int) -> list[Any]:
        dts = self._index.dts
        try:
            self._video.container.seek(dts[first] + self._shift, stream=self._video.stream)
        except av.FFmpegError as error:
            raise NotAsPlanned from error
        coded: list[Any] = []
        stream = video_packets(self._video)
        room = KEEP_BYTES
        for packet in stream:
            if not coded and packet.dts is not None and packet.dts < dts[first]:
                continue  # the jump was a little short
            if packet.dts != dts[first + len(coded)] or room < packet.size:
                raise NotAsPlanned
            room -= packet.size
            coded.append(packet)
            if first + len(coded) == end:
                break
        # A file in fragments lists no more than its first ones: then there is more behind the end.
        more = end == len(dts) and next(stream, None) is not None
        if more or first + len(coded) != end or coded[0].pts is None:
            raise NotAsPlanned
        # The demuxer takes times of showing to jump to: remember how far they lie from the index.
        self._shift = coded[0].pts - dts[first]
        return coded
