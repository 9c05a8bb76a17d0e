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
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import numpy as np

from model.inputs.clip import Pixels, VideoInfo, VideoWarning, bounded
from model.inputs.errors import (
    NoPackets,
    NoPicture,
    RangeError,
    TooShort,
    Undecodable,
    Unsteady,
    VideoError,
)
from model.inputs.limits import VideoLimits
from model.inputs.pixels.crop import crop_frame
from model.inputs.sampling import FrameRule, Indices, sample_segments
from model.inputs.spec import InputSpec
from model.inputs.video.bitstream import inspector_for
from model.inputs.video.clip_reader import ClipReader, NotAsPlanned, Request, Size
from model.inputs.video.container import OpenVideo, packets_of
from model.inputs.video.frames import all_pictures, target_pictures
from model.inputs.video.packet_reader import can_jump_back, packets_from_file, packets_from_memory
from model.inputs.video.planner import pictures_to_decode, runs, schedule
from model.inputs.video.source import SharedFile
from model.inputs.video.timeline import check_duration, select_range
from model.inputs.windows import Cut, plan_windows


@dataclass(frozen=True)
class PlannedWindow:
    """A window and the numbers of its frames; `known_at` is the last frame that its choice of
    frames depends on.
    """

    start_s: float
    end_s: float
    picks: tuple[int, ...]
    times_s: tuple[float, ...]
    known_at: int


@dataclass(frozen=True)
class Window:
    """A window of a video and its frames, uint8 RGB (T, H, H, 3), with the seconds of each."""

    start_s: float
    end_s: float
    times_s: tuple[float, ...]
    frames: Pixels


@dataclass(frozen=True)
class Opened:
    """Facts of the video (no frame times), and how many windows there will be."""

    info: VideoInfo
    windows: int


@dataclass
class Progress:
    """What has been given out, whichever way it was read."""

    opened: bool = False
    given: list[PlannedWindow] = field(default_factory=list)


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
            yield from way(reader, _Pass(reader, cut, progress))
            return
    raise Undecodable


def _proven(reader: ClipReader, windows: _Pass) -> Iterator[Opened | Window]:
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
    if packets.kept is None and not can_jump_back(video):
        video = reader.rewound()
    if packets.kept is not None:
        coded = packets_from_memory(packets, stretches)
    else:
        coded = packets_from_file(video, packets, stretches, None if can_jump_back(video) else 0)
    look = reader.viewer(video)
    for packet, frame in target_pictures(video, packets, stretches, coded):
        yield from windows.take(numbers[packet], look(frame))
        yield from windows.finished()
    yield from windows.rest()


def _announced(reader: ClipReader, windows: _Pass) -> Iterator[Opened | Window]:
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


def _counted(reader: ClipReader, windows: _Pass) -> Iterator[Opened | Window]:
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
    windows: _Pass,
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


class _Pass:
    """One pass over a video: which frames are wanted, and the windows that they fill.

    A frame is finished for the size at which the first one of its window is shown, as it is where
    the window is a clip by itself; where sizes change, overlapping windows may want it in two.
    """

    def __init__(self, reader: ClipReader, cut: Cut, progress: Progress) -> None:
        self._reader, self._cut, self._progress = reader, cut, progress
        self._planned: list[PlannedWindow] = []
        self._next = 0
        self._duration_s, self._total = 0.0, 0
        self._wanting: dict[int, list[int]] = {}
        self._uses: Counter[int] = Counter()
        self._sizes: dict[int, Size] = {}
        self._finished: dict[int, dict[Size, Pixels]] = {}

    @property
    def wanted(self) -> dict[int, list[int]]:
        """The numbers of the frames to take, each with the windows that want it."""
        return self._wanting

    def plan(self, times: Sequence[float]) -> None:
        """Cut the video, whose frames are shown at `times`.

        Raises:
            Unsteady: Windows were given out that are not among these.
        """
        request = self._reader.request
        check_duration(times, request.limits)
        inside = select_range(times, request.start, request.end)
        video, packets = self._reader.listing
        self._duration_s = times[-1] + video.clock.last_frame_s(
            packets.last_duration, times[-1], len(times)
        )
        self._total = len(times)
        self._inside = len(inside)
        end_s = self._duration_s if request.end is None else min(self._duration_s, request.end)
        costs = self._costs(len(times))
        cuts = plan_windows(request.start or 0.0, end_s, self._cut)
        self._planned = [window for one in cuts for window in self._chosen(one, times, costs)]
        self._has_empty = len(self._planned) < len(cuts)
        if not self._planned:
            raise TooShort
        given = self._progress.given
        if given != self._planned[: len(given)]:
            raise Unsteady
        self._next = len(given)
        for index in range(self._next, len(self._planned)):
            for number in dict.fromkeys(self._planned[index].picks):
                self._wanting.setdefault(number, []).append(index)
                self._uses[number] += 1

    def take(self, number: int, seen: tuple[Pixels, Size, Size]) -> Iterator[Opened]:
        """Finish a wanted frame in each size that it is wanted in."""
        image, displayed, size = seen
        if not self._progress.opened:
            self._progress.opened = True
            yield Opened(self._info(displayed), len(self._planned))
        sizes = self._finished.setdefault(number, {})
        for index in self._wanting[number]:
            if self._planned[index].picks[0] == number:
                self._sizes[index] = size
            wanted = self._sizes.get(index)
            if wanted is None:  # a later frame of the window came before its first
                raise NotAsPlanned
            if wanted not in sizes:
                sizes[wanted] = self._reader.request.finish(image, wanted)

    def finished(self, shown: int | None = None) -> Iterator[Window]:
        """Give the windows, in order, all of whose frames are here.

        Args:
            shown: The number of the last frame that was decoded, where its time may still prove
                another than was thought; None where times are proven.
        """
        while self._next < len(self._planned):
            window = self._planned[self._next]
            if shown is not None and shown < window.known_at:
                return
            if any(number not in self._finished for number in window.picks):
                return
            yield self._give(window)

    def rest(self) -> Iterator[Window]:
        """Give the last windows. NotAsPlanned where a frame of one has not come."""
        yield from self.finished()
        if self._next < len(self._planned):
            raise NotAsPlanned

    def _give(self, window: PlannedWindow) -> Window:
        size = self._sizes.pop(self._next)
        frames = np.stack([self._finished[number][size] for number in window.picks])
        for number in dict.fromkeys(window.picks):
            self._uses[number] -= 1
            if not self._uses[number]:
                del self._finished[number]
        self._next += 1
        self._progress.given.append(window)
        return Window(window.start_s, window.end_s, window.times_s, frames)

    def _chosen(
        self, cut: tuple[float, float], times: Sequence[float], costs: Indices | None
    ) -> Iterator[PlannedWindow]:
        """Choose the frames of a window; none where it holds no frame."""
        start_s, end_s = cut
        request = replace(self._reader.request, start=start_s, end=end_s)
        rule = request.rule_where_all_is_decoded
        with suppress(TooShort, RangeError):
            inside = select_range(times, start_s, end_s)
            picks = tuple(request.picks(times, rule, costs))
            shown = tuple(times[number] for number in picks)
            yield PlannedWindow(start_s, end_s, picks, shown, inside.stop - 1)

    def _costs(self, count: int) -> Indices | None:
        """Count the pictures to decode for each of the frames alone, where it matters."""
        if self._reader.request.rule is not FrameRule.KEYFRAMES:
            return None
        _, packets = self._reader.listing
        order = schedule(packets)
        if order is None or len(order.order) != count:
            return None
        return pictures_to_decode(packets, order.order)

    def _info(self, displayed: Size) -> VideoInfo:
        video, packets = self._reader.listing
        duration = self._duration_s
        warnings = (
            *video.warnings,
            *((VideoWarning.HOLE,) if packets.has_hole else ()),
            *((VideoWarning.EMPTY_WINDOWS,) if self._has_empty else ()),
        )
        return VideoInfo(
            duration_s=bounded(duration, 6),
            fps=bounded(self._total / duration, 3) if duration > 0 else None,
            width=displayed[1],
            height=displayed[0],
            codec=video.codec,
            frames=self._inside,
            frame_rule=self._reader.request.rule_where_all_is_decoded,
            frame_times_s=(),
            warnings=warnings,
        )
