"""The packets of a video, listed without decoding: what the planner decides from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from model.inputs.errors import Encrypted, OverlappingPackets, TooManyFrames
from model.inputs.limits import VideoLimits
from model.inputs.video.bitstream import inspector_for
from model.inputs.video.bitstream.role import HEAD_BYTES, Inspector, Role
from model.inputs.video.container import OpenVideo, packets_of

# Packets of a file up to this size stay in memory between listing and decoding.
KEEP_BYTES = 16 << 20
# Packets may share bytes of the file, within reason.
MOST_OF_FILE, FREE_BYTES = 8, 128 << 20
PROGRESSIVE_OR_UNKNOWN = (0, 1)
# Containers that store the order of decoding alone; what the demuxer gives as times is a guess.
WITHOUT_TIMES = ("avi",)
# Streams off the air lose packets, and with them what later pictures refer to. They have a steady
# rate, so a loss leaves a hole in the times.
BROADCAST = ("mpegts", "mpeg")
# Of these the demuxer begins at the offset of any packet.
WITHOUT_INDEX = ("mpegts",)
# Of these packets have places: where a jump led is proven by them, whatever an index says.
PLACED = (*WITHOUT_INDEX, "matroska", "avi")

# More of such a file without one packet of the film, in bytes and as a share, is something else.
HOLE_BYTES, HOLE_SHARE = 4 << 20, 1 / 8

# Side data of a packet that later packets are decoded with.
CHANGES = ("param_change", "palette")

Classify = Callable[[Any, bool], Role | None]


@dataclass
class PacketList:
    """One entry per packet, in decoding order. Times are ticks of the stream's clock; `places` are
    offsets in the file and sizes, by which a packet read again is known for the same.
    """

    pts: list[int | None] = field(default_factory=list)
    roles: list[Role | None] = field(default_factory=list)
    discarded: list[bool] = field(default_factory=list)
    last_duration: int = 0
    places: list[tuple[int, int]] | None = None
    kept: list[Any] | None = field(default_factory=list)
    interlaced: bool = False
    reorder_depth: int = 0
    guessed_times: bool = False
    even_times: bool = False
    has_hole: bool = False

    @classmethod
    def empty(cls, video: OpenVideo) -> PacketList:
        """Return a list that knows the stream but no packet yet."""
        return cls(
            interlaced=video.context.field_order not in PROGRESSIVE_OR_UNKNOWN,
            reorder_depth=video.context.reorder_depth,
            guessed_times=video.demuxer in WITHOUT_TIMES,
            even_times=video.demuxer in BROADCAST,
            places=[] if len(video.choice.streams) == 1 and video.demuxer in PLACED else None,
        )

    def __len__(self) -> int:
        return len(self.pts)


def list_packets(video: OpenVideo, limits: VideoLimits) -> PacketList:
    """Read every packet once. Raises TooLarge as soon as a limit is passed."""
    packets = PacketList.empty(video)
    classify = _classifier(video)
    check_bytes = bytes_check(video)
    room = KEEP_BYTES
    position = largest_hole = 0
    for packet in packets_of(video):
        if len(packets.pts) >= limits.max_frames:
            raise TooManyFrames(max_frames=limits.max_frames)
        check_bytes(packet.size)
        changed = changes_decoder(packet, video)
        packets.pts.append(packet.pts)
        packets.discarded.append(packet.is_discard)
        packets.roles.append(None if changed else classify(packet, packet.is_keyframe))
        packets.last_duration = packet.duration or packets.last_duration
        if packet.pos is None:
            packets.places = None
        else:
            if packets.places is not None:
                packets.places.append((packet.pos, packet.size))
            largest_hole = max(largest_hole, packet.pos - position)
            position = packet.pos
        if packets.kept is not None:
            packets.kept.append(packet)
            room -= packet.size
            if room < 0:
                packets.kept = None
    if video.demuxer in BROADCAST:
        largest_hole = max(largest_hole, video.source.size - position)
        packets.has_hole = largest_hole > max(HOLE_BYTES, HOLE_SHARE * video.source.size)
    return packets


def _classifier(video: OpenVideo) -> Classify:
    """Return a function to ask for the role of each packet in turn: None from the first on that
    is not plain, as the others do not matter then.
    """
    cut = video.demuxer in BROADCAST
    inspector = inspector_for(video.context.name, video.context.extradata, cut=cut)
    plain = inspector is not None
    glances = inspector is not None and type(inspector).glance is not Inspector.glance

    def classify(packet: Any, key: bool) -> Role | None:
        nonlocal plain
        if not plain or inspector is None or packet.is_corrupt:
            return None
        data = memoryview(packet)
        role = (
            inspector.glance(bytes(data[:HEAD_BYTES]), len(data)) if glances and not key else None
        )
        if role is None:
            role = inspector(data, key)
        plain = role is not None
        return role

    return classify


def changes_decoder(packet: Any, video: OpenVideo) -> bool:
    """Return whether a packet brings what later ones are decoded with: parameters or a palette.

    Raises Encrypted where it is: such packets decode to noise.
    """
    changes = False
    for side in packet.iter_sidedata():
        if side.data_type == "encryption_info":
            raise Encrypted
        if side.data_type == "new_extradata":
            changes |= bytes(side) != video.context.extradata
        changes |= side.data_type in CHANGES
    return changes


def bytes_check(video: OpenVideo) -> Callable[[int], None]:
    """Return a function that raises once the packets hold far more than the file: thousands of them
    over the same bytes, or blown up from compressed ones, are made to keep a server busy.
    """
    room = MOST_OF_FILE * video.source.size + FREE_BYTES

    def check(size: int) -> None:
        nonlocal room
        room -= size
        if room < 0:
            raise OverlappingPackets

    return check
