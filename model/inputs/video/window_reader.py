"""The frames of many windows of one video, in one pass of the decoder.

Each window gets the frames that `decode_clip` takes between its start and end; windows that overlap
share them. A frame is kept until the last window that wants it is given out.

Which frames these are is known before any is decoded, from the packets. Where they prove what each
of them shows, only the stretches that hold wanted frames are decoded. Else everything is, and the
times of what is shown are compared with those of the packets on the way; where they part the file
is decoded once more to learn them, and once again for the frames.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

from model.inputs.errors import NoPackets, NoPicture, Undecodable, VideoError
from model.inputs.limits import VideoLimits
from model.inputs.pixels.crop import crop_frame
from model.inputs.sampling import FrameRule, sample_segments
from model.inputs.spec import InputSpec
from model.inputs.video.bitstream import inspector_for
from model.inputs.video.clip_reader import ClipReader, NotAsPlanned, Request
from model.inputs.video.container import OpenVideo, packets_of
from model.inputs.video.frames import all_pictures, target_pictures
from model.inputs.video.packet_reader import can_jump_back, packets_from_file, packets_from_memory
from model.inputs.video.planner import runs, schedule
from model.inputs.video.source import SharedFile
from model.inputs.video.window_pass import Opened, Progress, Window, WindowPass
from model.inputs.windows import Cut


def read_windows(
    source: BinaryIO,
    spec: InputSpec,
    cut: Cut,
    *,
    start: float | None = None,
    end: float | None = None,
    limits: VideoLimits | None = None,
    frame_rule: FrameRule = FrameRule.EXACT,
    threads: int = 1,
    interrupt: Callable[[], None] = lambda: None,
) -> Generator[Opened | Window, None, None]:
    """Decode a video once and give the frames of its windows, in order, as soon as they are there.

    Args:
        source: Seekable binary file; its name, if it has one, is never looked at.
        spec: What the network expects of a window; T frames of H x H pixels.
        cut: How the video is cut.
        start: Seconds from the first frame, where the first window starts; None for the beginning.
        end: Seconds from the first frame, where the last window ends; None for the end.
        limits: How large the video may be; None for the defaults.
        frame_rule: Which frame of each segment of a window is taken.
        threads: Threads of the decoder, 1 or more.
        interrupt: Called before each packet; what it raises ends the reading.

    Yields:
        First `Opened`, then each `Window` that holds a frame.

    Raises:
        VideoError: The video cannot be used; `code` and `detail` say why.
    """

    def sampler(count: int, rule: FrameRule) -> Any:
        return sample_segments(count, spec.num_frames, spacing=spec.frame_rule, rule=rule)

    request = Request(
        start,
        end,
        sampler,
        lambda image, size: crop_frame(image, spec, 1, size)[0],
        spec.pixel_aspect,
        limits or VideoLimits(),
        frame_rule,
        interrupt=interrupt,
    )
    file, progress = SharedFile(source), Progress()
    try:
        yield from _read(file, request, cut, progress, threads)
    except (MemoryError, VideoError) as error:
        if threads == 1 or not isinstance(error.__cause__ or error, MemoryError):
            raise
    else:
        return
    gc.collect()
    yield from _read(file, request, cut, progress, 1)


def _read(
    file: SharedFile, request: Request, cut: Cut, progress: Progress, threads: int
) -> Iterator[Opened | Window]:
    """Give what has not been given yet, in the first way that the video allows."""
    # Of damaged pictures the threads of a decoder lose others than one thread does.
    ways = ((_proven, threads, False), (_announced, threads, True), (_counted, 1, True))
    for way, own_threads, probe in ways:
        with suppress(NotAsPlanned), ClipReader(file, request, own_threads, probe) as reader:
            yield from way(reader, WindowPass(reader, cut, progress))
            return
    raise Undecodable


def _proven(reader: ClipReader, windows: WindowPass) -> Iterator[Opened | Window]:
    """Decode the stretches that hold frames of windows, where the packets tell what they show."""
    context = reader.video.context
    if inspector_for(context.name, context.extradata) is None:
        raise NotAsPlanned
    video, packets = reader.listing
    order = schedule(packets)
    if order is None:
        raise NotAsPlanned
    windows.plan(video.clock.shown_times(order.pts))
    numbers = {order.order[number]: number for number in windows.wanted}
    stretches = runs(packets, numbers)
    if packets.kept is None and not can_jump_back(video, packets, stretches):
        video = reader.rewound()
    if packets.kept is not None:
        coded = packets_from_memory(packets, stretches)
    else:
        position = None if can_jump_back(video, packets, stretches) else 0
        coded = packets_from_file(video, packets, stretches, position)
    look = reader.viewer(video)
    for packet, frame in target_pictures(video, packets, stretches, coded):
        yield from windows.take(numbers[packet], look(frame))
        yield from windows.finished()
    yield from windows.rest()


def _announced(reader: ClipReader, windows: WindowPass) -> Iterator[Opened | Window]:
    """Decode everything, and take the packets at their word as long as the pictures keep it."""
    video, packets = reader.listing
    gone = zip(packets.pts, packets.discarded, strict=True)
    ticks = sorted(tick for tick, discarded in gone if tick is not None and not discarded)
    if not ticks or len(ticks) + sum(packets.discarded) != len(packets):
        raise NotAsPlanned
    if packets.kept is not None and not video.context.is_open:
        coded = iter(packets.kept)
    else:
        video = reader.rewound()
        coded = packets_of(video)
    windows.plan(video.clock.shown_times(ticks))
    yield from _given(reader, video, coded, windows, ticks)


def _counted(reader: ClipReader, windows: WindowPass) -> Iterator[Opened | Window]:
    """Decode everything to learn what is shown when, and then for the frames."""
    _, packets = reader.listing
    video, limits = reader.rewound(), reader.request.limits
    ticks = [frame.pts for _, frame in all_pictures(video, packets_of(video), limits)]
    if not ticks:
        raise NoPicture if len(packets) else NoPackets
    windows.plan(video.clock.shown_times(ticks))
    again = reader.rewound()
    yield from _given(reader, again, packets_of(again), windows, ticks)


def _given(
    reader: ClipReader,
    video: OpenVideo,
    coded: Iterator[Any],
    windows: WindowPass,
    ticks: Sequence[int | None],
) -> Iterator[Opened | Window]:
    """Give windows while everything is decoded. NotAsPlanned where it is not shown at `ticks`."""
    look = reader.viewer(video)
    count = 0
    for number, frame in all_pictures(video, coded, reader.request.limits):
        if number >= len(ticks) or frame.pts != ticks[number]:
            raise NotAsPlanned
        if number in windows.wanted:
            yield from windows.take(number, look(frame))
        yield from windows.finished(number)
        count += 1
    if count != len(ticks):
        raise NotAsPlanned
    yield from windows.rest()
