"""Long mp4 files: sample from the file's own index, without reading the file through.

The index of an mp4 lists every packet in decoding order, with its offset and size but without the
time it is shown at. The packets between one entry and the next (a *group*) are shown in one
stretch, so the group tells which sampled frames it holds, and the group alone is read to tell which
packets they are. What reading it all would show is checked as far as the index allows: every
packet lies inside the file and begins as one plain picture.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import av
import numpy as np

from model.inputs.errors import TooManyFrames
from model.inputs.limits import VideoLimits
from model.inputs.sampling import Segment, choose_frames
from model.inputs.video.bitstream import inspector_for
from model.inputs.video.bitstream.role import (
    ENTRY,
    HEAD_BYTES,
    HIDDEN,
    REFERENCE,
    Inspector,
    Role,
)
from model.inputs.video.clip_reader import ClipReader, NotAsPlanned, Take, Taken
from model.inputs.video.container import OpenVideo, packets_of
from model.inputs.video.frames import decode_runs
from model.inputs.video.packets import (
    KEEP_BYTES,
    PacketList,
    bytes_check,
    changes_decoder,
)
from model.inputs.video.planner import Schedule, pictures_of, pictures_to_decode, runs, schedule
from model.inputs.video.source import SharedFile
from model.inputs.video.timeline import LONGEST_REORDER, check_duration

# Below this many packets reading them all is as fast, and sees more.
FEWEST_PACKETS = 1000


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

    def pictures_to_decode(self, numbers: Iterable[int]) -> int:
        """Estimate how many pictures the frames with these numbers need: an index does not tell in
        which order the pictures of a group are shown.
        """
        latest: dict[int, int] = {}
        for number in numbers:
            group = bisect_right(self.groups, number) - 1
            latest[group] = max(latest.get(group, 0), number)
        roles = self.packets.roles
        return sum(
            1 + sum(1 for role in roles[self.groups[group] : number] if role and role & REFERENCE)
            for group, number in latest.items()
        )

    def narrowed(self, segment: Segment) -> Segment:
        """Return a segment within one group from which the same frame is taken.

        The first picture of a group is its key frame and is shown first, so a segment that holds
        one is that frame alone; a segment without lies inside one group.
        """
        begin, end = (bisect_left(self.groups, n) for n in (segment.first, segment.end))
        keys = self.groups[begin:end]
        if not keys:
            return segment
        key = min(keys, key=lambda number: abs(number - segment.aim))
        return Segment(key, key + 1, key)

    @cached_property
    def largest_shift(self) -> int:
        """Ticks that reordering may move a picture by."""
        return LONGEST_REORDER * int(np.median(np.diff(self.dts)))


def read_index(video: OpenVideo, limits: VideoLimits, few: bool = False) -> Index | None:
    """Return the index, or None where the file has none that tells enough, or too few packets; with
    `few` that of these alone, of two and more.
    """
    entries = video.stream.index_entries
    are_few = len(entries) < FEWEST_PACKETS
    if video.demuxer != "mov" or are_few is not few or len(entries) < 2:
        return None
    if len(entries) > limits.max_frames:
        raise TooManyFrames(max_frames=limits.max_frames)
    packets = PacketList.empty(video)
    inspector = inspector_for(video.context.name, video.context.extradata)
    if inspector is None or packets.interlaced:
        return None
    end = video.source.size
    check_bytes = bytes_check(video)
    dts: list[int] = []
    for entry in entries:
        time, offset, size, key = entry.timestamp, entry.pos, entry.size, entry.is_keyframe
        if entry.is_discard or size <= 0 or offset + size > end or (dts and time <= dts[-1]):
            return None
        check_bytes(size)
        role = _role(inspector, video.source, offset, size, key)
        if role is None or role & HIDDEN or (not dts and not role & ENTRY):
            return None
        dts.append(time)
        packets.roles.append(role)
    steps = np.diff(dts)
    if steps.max() > LONGEST_REORDER * np.median(steps):
        return None  # a pause or a clock that was set: the packets themselves tell more
    check_duration([video.clock.seconds(time, dts[0]) for time in (dts[0], dts[-1])], limits)
    groups = [i for i, role in enumerate(packets.roles) if role is not None and role & ENTRY]
    return Index(dts, packets, [*groups, len(dts)])


def _role(
    inspector: Inspector, source: SharedFile, offset: int, size: int, key: bool
) -> Role | None:
    role = None if key else inspector.glance(source.read_at(offset, HEAD_BYTES), size)
    if role is None:
        data = source.read_at(offset, size)
        role = inspector(memoryview(data), key) if len(data) == size else None
    return role


@dataclass(frozen=True)
class Decoded:
    """The numbers of the taken frames, and by number the frames and when they are shown; the times
    of the first and the last frame of the file, and how long the last one is shown. All times are
    ticks. `pictures` were decoded.
    """

    picks: list[int]
    pictures: int
    taken: dict[int, Taken]
    ticks: dict[int, int]
    first_tick: int
    last_tick: int
    last_duration: int


def decode_indexed(
    clip: ClipReader, video: OpenVideo, index: Index, segments: Sequence[Segment]
) -> Decoded:
    """Decode one frame of each segment; the clip's threads share the groups. These are short:
    starting and draining the threads of a decoder for each would cost more.

    Raises NotAsPlanned where a group is not what the index promised.
    """
    last = len(index.groups) - 2
    narrowed = [index.narrowed(segment) for segment in segments]
    groups: dict[int, list[Segment]] = {0: [], last: []}
    for segment in sorted(set(narrowed)):
        groups.setdefault(bisect_right(index.groups, segment.first) - 1, []).append(segment)

    def decode(own: OpenVideo, share: Sequence[int]) -> GroupReader:
        reader = GroupReader(own, index, clip.taker(own))
        for group in share:
            reader.decode(group, groups[group])
        return reader

    readers = clip.in_shares(video, sorted(groups), decode)
    chosen = {s: n for reader in readers for s, n in reader.chosen.items()}
    taken = {n: frame for reader in readers for n, frame in reader.taken.items()}
    ticks = {n: tick for reader in readers for n, tick in reader.ticks.items()}
    spans = {group: span for reader in readers for group, span in reader.spans.items()}
    _check_spans(index, spans)
    return Decoded(
        picks=[chosen[segment] for segment in narrowed],
        pictures=sum(reader.pictures for reader in readers),
        taken=taken,
        ticks=ticks,
        first_tick=spans[0][0],
        last_tick=spans[last][1],
        last_duration=readers[-1].last_duration,
    )


def _check_spans(index: Index, spans: dict[int, tuple[int, int]]) -> None:
    """Refuse groups whose times of showing are not shifted alike from those of decoding."""
    shifts = [begin - index.dts[index.groups[group]] for group, (begin, _) in spans.items()]
    if max(shifts) - min(shifts) > index.largest_shift:
        raise NotAsPlanned


class GroupReader:
    """Reads groups of an indexed file, ascending, and decodes what is needed of them."""

    def __init__(self, video: OpenVideo, index: Index, take: Take) -> None:
        self._video = video
        self._index = index
        self._take = take
        self._shift = 0
        self.last_duration = 0
        self.pictures = 0
        self.chosen: dict[Segment, int] = {}
        self.taken: dict[int, Taken] = {}
        self.ticks: dict[int, int] = {}
        self.spans: dict[int, tuple[int, int]] = {}

    def decode(self, group: int, segments: Sequence[Segment]) -> None:
        """Take a frame of each segment of a group; note their times, and the group's span."""
        first, end = self._index.groups[group : group + 2]
        order, packets, coded = self._read(first, end)
        costs = pictures_to_decode(packets, order.order)
        local = [Segment(*(n - first for n in segment)) for segment in segments]
        chosen = choose_frames(local, costs)
        self.chosen |= {s: first + n for s, n in zip(segments, chosen, strict=True)}
        numbers = {order.order[n]: first + n for n in chosen}
        stretches = runs(packets, numbers)
        self.pictures += pictures_of(stretches)
        needed = (coded[i] for run in stretches for i in run.packets)
        taken = decode_runs(self._video, packets, stretches, needed, self._take)
        self.taken |= {numbers[i]: frame for i, frame in taken.items()}
        self.ticks |= {first + n: order.pts[n] for n in chosen}
        self.spans[group] = (order.pts[0], order.pts[-1])
        if end == self._index.frames:
            self.last_duration = coded[-1].duration or 0

    def _read(self, first: int, end: int) -> tuple[Schedule, PacketList, list[Any]]:
        """Return a group's packets, numbered from its first, and which of them is shown when."""
        coded = self._packets(first, end)
        packets = PacketList(
            pts=[p.pts for p in coded],
            roles=self._index.packets.roles[first:end],
            discarded=[p.is_discard or p.is_corrupt for p in coded],
            reorder_depth=self._index.packets.reorder_depth,
        )
        order = schedule(packets)
        if order is None or len(order.order) != end - first:
            raise NotAsPlanned
        return order, packets, coded

    def _packets(self, first: int, end: int) -> list[Any]:
        dts = self._index.dts
        try:
            self._video.container.seek(dts[first] + self._shift, stream=self._video.stream)
        except av.FFmpegError as error:
            raise NotAsPlanned from error
        coded: list[Any] = []
        stream = packets_of(self._video)
        room = KEEP_BYTES
        for packet in stream:
            if not coded and packet.dts is not None and packet.dts < dts[first]:
                continue  # the jump was a little short
            if packet.dts != dts[first + len(coded)] or room < packet.size:
                raise NotAsPlanned
            if changes_decoder(packet, self._video):
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
