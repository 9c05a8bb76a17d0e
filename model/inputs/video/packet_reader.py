"""Hand the coded packets of planned runs to the decoder, again from the file where need be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import av

from model.inputs.video.clip_reader import NotAsPlanned
from model.inputs.video.container import OpenVideo, packets_of
from model.inputs.video.packets import PacketList
from model.inputs.video.planner import Run

# Demuxers whose index leads to a packet exactly. Elsewhere reading on is as good, and certain.
INDEXED = ("mov", "matroska")
# Reading this many packets costs less than a seek.
SHORT_WAY = 200


def packets_from_memory(packets: PacketList, runs: Sequence[Run]) -> Iterator[Any]:
    """Yield the packets of all runs from memory."""
    if packets.kept is None:
        raise ValueError("no packets were kept")
    for run in runs:
        for number in run.packets:
            yield packets.kept[number]


def can_jump_back(video: OpenVideo) -> bool:
    """Tell whether a file that was read to its end can be read again without opening it anew, which
    decodes the first pictures: its sample table leads to each packet.
    """
    return video.demuxer == "mov"


def packets_from_file(
    video: OpenVideo, packets: PacketList, runs: Sequence[Run], position: int | None = 0
) -> Iterator[Any]:
    """Yield the packets of all runs from the file, jumping over what is not needed.

    `position` is the number of the packet that comes next, None for a file that was read.
    Every packet passed is compared with the list; raises NotAsPlanned where they part.
    """
    numbers = {pts: i for i, pts in enumerate(packets.pts)}
    stream = packets_of(video)
    for run in runs:
        first = run.packets[0]
        if position is None or (first - position > SHORT_WAY and video.demuxer in INDEXED):
            stream, position, pending = _seek(video, packets, numbers, first)
        else:
            pending = None
        needed = set(run.packets)
        while position <= run.packets[-1]:
            packet = pending if pending is not None else next(stream, None)
            pending = None
            if packet is None or packet.pts != packets.pts[position]:
                raise NotAsPlanned
            if position in needed:
                yield packet
            position += 1


def _seek(
    video: OpenVideo, packets: PacketList, numbers: dict[int | None, int], first: int
) -> tuple[Iterator[Any], int, Any]:
    """Jump to a packet at or before `first`; the packet read there comes along."""
    target = packets.pts[first]
    if target is None:
        raise NotAsPlanned
    try:
        video.container.seek(target, stream=video.stream)
    except av.FFmpegError as error:
        raise NotAsPlanned from error
    stream = packets_of(video)
    packet = next(stream, None)
    number = None if packet is None else numbers.get(packet.pts)
    if number is None or number > first:
        raise NotAsPlanned
    return stream, number, packet
