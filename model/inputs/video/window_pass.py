"""One pass over a video: which frames are wanted, and the windows that they fill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from model.inputs.clip import Pixels, VideoInfo, VideoWarning, bounded
from model.inputs.errors import RangeError, TooShort, Unsteady
from model.inputs.sampling import FrameRule, Indices
from model.inputs.video.clip_reader import ClipReader, NotAsPlanned, Size
from model.inputs.video.planner import pictures_to_decode, schedule
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


class WindowPass:
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
