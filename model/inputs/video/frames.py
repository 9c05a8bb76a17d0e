"""Run the decoder: the planned stretches of a regular file, or a whole file.

Both call `take(frame)` for the sampled pictures while the decoder still owns them and keep what it
returns, so memory holds what is taken and never a whole decoded video.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Any

import av

from model.inputs.errors import TooManyFrames
from model.inputs.limits import VideoLimits
from model.inputs.video.clip_reader import NotAsPlanned, Take, Taken
from model.inputs.video.container import OpenVideo, check_picture
from model.inputs.video.packets import PacketList
from model.inputs.video.planner import Run, is_shown


def decode_runs(
    video: OpenVideo, packets: PacketList, runs: Iterable[Run], coded: Iterator[Any], take: Take
) -> dict[int, Taken]:
    """Return what `take` makes of the targets, by packet number; see `target_pictures`."""
    return {number: take(frame) for number, frame in target_pictures(video, packets, runs, coded)}


def target_pictures(
    video: OpenVideo, packets: PacketList, runs: Iterable[Run], coded: Iterator[Any]
) -> Iterator[tuple[int, Any]]:
    """Yield the packet number and the picture of each target, as they are decoded.

    `coded` yields the packets of all runs, in order. Raises NotAsPlanned at the first surprise:
    an error, a damaged picture, one too many or one too few.
    """
    for run in runs:
        expected = {packets.pts[i]: i for i in run.packets if is_shown(packets, i)}
        opening = packets.pts[run.packets[0]]
        seen: set[int | None] = set()
        latest = opening
        for frame in _decode_strictly(video, coded, len(run.packets)):
            time = frame.pts
            number = expected.get(time)
            leading = time is not None and opening is not None and time < opening
            if leading and number not in run.targets:
                continue
            if number is None or frame.is_corrupt or (seen and time <= latest):
                raise NotAsPlanned
            latest = time
            seen.add(latest)
            if number in run.targets:
                yield number, frame
        missing = expected.keys() - seen
        if any(opening is None or time is None or time >= opening for time in missing):
            raise NotAsPlanned
        video.context.flush_buffers()


def _decode_strictly(video: OpenVideo, coded: Iterator[Any], count: int) -> Iterator[Any]:
    context = video.context
    try:
        for _ in range(count):
            video.interrupt()
            yield from context.decode(next(coded))
        yield from context.decode(None)
    except MemoryError:  # FFmpeg's is one, too: fewer decoders may have enough
        raise
    except (av.FFmpegError, StopIteration) as error:
        raise NotAsPlanned from error


def decode_all(
    video: OpenVideo,
    coded: Iterable[Any],
    limits: VideoLimits,
    numbers: Collection[int],
    take: Take,
) -> tuple[list[int | None], dict[int, Taken]]:
    """Decode everything, passing over what cannot be decoded.

    Returns the time in ticks of every frame in the order shown, and what `take` makes of the
    frames with these `numbers`. Raises NotAsPlanned where the threads of a decoder meet damage.
    """
    ticks: list[int | None] = []
    taken: dict[int, Taken] = {}
    for number, frame in all_pictures(video, coded, limits):
        ticks.append(frame.pts)
        if number in numbers:
            taken[number] = take(frame)
    return ticks, taken


def all_pictures(
    video: OpenVideo, coded: Iterable[Any], limits: VideoLimits
) -> Iterator[tuple[int, Any]]:
    """Yield every picture with its number in the order shown; see `decode_all`."""
    for number, frame in enumerate(_decode_leniently(video, coded)):
        check_picture(frame.width, frame.height, limits)
        if frame.is_corrupt and video.context.thread_count > 1:
            raise NotAsPlanned
        if number >= limits.max_frames:
            raise TooManyFrames(max_frames=limits.max_frames)
        yield number, frame


def _decode_leniently(video: OpenVideo, coded: Iterable[Any]) -> Iterator[Any]:
    """Yield the pictures that can be decoded; pass over damage, but not over want of memory."""
    context = video.context
    for packet in chain(coded, (None,)):
        video.interrupt()
        try:
            yield from context.decode(packet)
        except MemoryError:  # FFmpeg's is one, too: another picture would be shown in its place
            raise
        except av.FFmpegError as error:
            if context.thread_count > 1:
                raise NotAsPlanned from error
