"""Hand the coded packets of planned runs to the decoder, again from the file where need be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import av

from model.inputs.video.clip_reader import NotAsPlanned
from model.inputs.video.container import READ_BYTES, OpenVideo, packets_of
from model.inputs.video.packets import WITHOUT_INDEX, PacketList
from model.inputs.video.planner import Run

# Demuxers whose index leads to a packet exactly. Elsewhere reading on is as good, and certain, but
# where packets have places.
INDEXED = ("mov", "matroska")
# In these a packet is a chunk of the file as it is, behind its length (lowest byte first). Their
# index has times of decoding, and beside dropped frames it leads elsewhere.
VERBATIM, LENGTH_BYTES = ("avi",), 4
# Reading this many packets, or bytes where their places are known, costs less than a seek.
SHORT_WAY = 200
SHORT_WAY_BYTES = 4 * READ_BYTES


def packets_from_memory(packets: PacketList, runs: Sequence[Run]) -> Iterator[Any]:
    """Yield the packets of all runs from memory."""
    if packets.kept is None:
        raise ValueError("no packets were kept")
    for run in runs:
        for number in run.packets:
            yield packets.kept[number]


def can_jump_back(video: OpenVideo, packets: PacketList, runs: Sequence[Run]) -> bool:
    """Tell whether a file that was read to its end can be read again without opening it anew, which
    decodes the first pictures: its index leads to packets, or these know where they are and the
    demuxer begins anywhere, or is not needed.
    """
    if packets.places is not None and video.demuxer in WITHOUT_INDEX:
        return True
    if packets.places is not None and video.demuxer in VERBATIM:
        places = packets.places
        return all(_is_chunk(video, *places[number]) for run in runs for number in run.packets)
    return video.demuxer in INDEXED and len(video.stream.index_entries) > 0


def packets_from_file(
    video: OpenVideo, packets: PacketList, runs: Sequence[Run], position: int | None = 0
) -> Iterator[Any]:
    """Yield the packets of all runs from the file, jumping over what is not needed.

    `position` is the number of the packet that comes next, None for a file that was read.
    Every packet passed is compared with the list; raises NotAsPlanned where they part.
    """
    if position is None and packets.places is not None and video.demuxer in VERBATIM:
        yield from _packets_in_place(video, packets, packets.places, runs)
        return
    numbers = {pts: i for i, pts in enumerate(packets.pts)}
    stream = packets_of(video)
    for run in runs:
        first = run.packets[0]
        if position is None or _is_far(video, packets, position, first):
            stream, position, pending = _seek(video, packets, numbers, first)
        else:
            pending = None
        needed = set(run.packets)
        while position <= run.packets[-1]:
            packet = pending if pending is not None else next(stream, None)
            pending = None
            if packet is None or not _is_same(packets, position, packet):
                raise NotAsPlanned
            if position in needed:
                yield packet
            position += 1


def _packets_in_place(
    video: OpenVideo, packets: PacketList, places: Sequence[tuple[int, int]], runs: Sequence[Run]
) -> Iterator[Any]:
    for number in (number for run in runs for number in run.packets):
        offset, size = places[number]
        data = video.source.read_at(offset, size)
        if len(data) != size:
            raise NotAsPlanned
        packet = av.Packet(size)  # with room behind it, as decoders read on over the end
        packet.update(data)
        packet.pts, packet.time_base = packets.pts[number], video.stream.time_base
        yield packet


def _is_chunk(video: OpenVideo, offset: int, size: int) -> bool:
    if offset < LENGTH_BYTES:
        return False
    length = video.source.read_at(offset - LENGTH_BYTES, LENGTH_BYTES)
    return int.from_bytes(length, "little") == size


def _is_same(packets: PacketList, number: int, packet: Any) -> bool:
    """Tell whether it is the packet that was listed: not the rest of one before, with the time of
    the next, nor what an index leads to that was not read in turn.
    """
    if packet.pts != packets.pts[number]:
        return False
    return packets.places is None or packets.places[number] == (packet.pos, packet.size)


def _is_far(video: OpenVideo, packets: PacketList, position: int, first: int) -> bool:
    if video.demuxer in VERBATIM:
        return False
    if packets.places is not None and position < first:
        return packets.places[first][0] - packets.places[position][0] > SHORT_WAY_BYTES
    return first - position > SHORT_WAY and video.demuxer in INDEXED


def _seek(
    video: OpenVideo, packets: PacketList, numbers: dict[int | None, int], first: int
) -> tuple[Iterator[Any], int, Any]:
    """Jump to a packet at or before `first`; the packet read there comes along."""
    target = packets.pts[first]
    if target is None:
        raise NotAsPlanned
    try:
        if packets.places is not None and video.demuxer in WITHOUT_INDEX:
            video.container.seek(packets.places[first][0], unsupported_byte_offset=True)
        else:
            video.container.seek(target, stream=video.stream)
    except av.FFmpegError as error:
        raise NotAsPlanned from error
    stream = packets_of(video)
    packet = next(stream, None)
    if packet is None:
        raise NotAsPlanned
    number = numbers.get(packet.pts)
    if number is None or number > first:
        raise NotAsPlanned
    return stream, number, packet
