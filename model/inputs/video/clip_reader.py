"""A clip that is being read: its file, opened as often as is needed, and what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Self, TypeVar

from model.inputs.clip import Pixels, VideoInfo
from model.inputs.errors import ShownTooLarge
from model.inputs.limits import VideoLimits
from model.inputs.sampling import FrameRule, Indices, Segment, choose_frames
from model.inputs.spec import PixelAspect
from model.inputs.video.container import DESCRIBED, OpenVideo, check_picture, open_video
from model.inputs.video.packets import PacketList, list_packets
from model.inputs.video.picture import displayed_size, upright_rgb
from model.inputs.video.source import SharedFile
from model.inputs.video.streams import Choice
from model.inputs.video.timeline import select_range
from model.inputs.work import RuleByWork, Work

Size = tuple[int, int]
Finish = Callable[[Pixels, Size], Pixels]
Sampler = Callable[[int, FrameRule], list[Segment]]
Take = Callable[[Any], "Taken"]
Item = TypeVar("Item")
Result = TypeVar("Result")


class NotAsPlanned(Exception):
    """The file or the decoder is not what this way of reading needs: try the next one."""


@dataclass(frozen=True)
class Request:
    """Which part of the clip to look at, where in it, and what to make of each frame.

    Attributes:
        start: Seconds from the first frame; None for the beginning.
        end: Seconds from the first frame; None for the end.
        sampler: Where the frames of each view lie, for a number of frames and a frame rule.
        finish: Makes of an upright picture and the (height, width) it is shown at what is kept.
        pixel_aspect: Whether pixels that are not square are stretched.
        limits: How large the clip may be.
        rule: The frame rule, or what chooses it by the work that the exact one would take.
        shown_at: (height, width) for all pictures; None for that of each.
        before: Told what is about to be decoded; what it raises ends the reading.
        interrupt: Called before each packet; what it raises ends the reading.
    """

    start: float | None
    end: float | None
    sampler: Sampler
    finish: Finish
    pixel_aspect: PixelAspect
    limits: VideoLimits
    rule: FrameRule | RuleByWork = FrameRule.EXACT
    shown_at: Size | None = None
    before: Callable[[Work], None] = lambda work: None
    interrupt: Callable[[], None] = lambda: None

    @property
    def is_whole(self) -> bool:
        """Whether the clip is looked at from beginning to end."""
        return self.start is None and self.end is None

    @property
    def rule_where_all_is_decoded(self) -> FrameRule:
        """The frame rule where none saves anything."""
        return self.rule if isinstance(self.rule, FrameRule) else FrameRule.EXACT

    def picks(
        self, times: Sequence[float], rule: FrameRule, costs: Indices | None = None
    ) -> list[int]:
        """Return the numbers of the sampled frames, view by view.

        Args:
            times: Seconds of each frame of the clip.
            rule: The frame rule.
            costs: Pictures to decode for each frame alone; None where all cost the same.
        """
        inside = select_range(times, self.start, self.end)
        if costs is not None:
            costs = costs[inside.start : inside.stop]
        chosen = choose_frames(self.sampler(len(inside), rule), costs)
        return [inside.start + number for number in chosen]


@dataclass(frozen=True)
class Taken:
    """One sampled frame, finished.

    `displayed` is the (height, width) at which a player shows it, `shown_at` the one that it was
    finished for.
    """

    pixels: Pixels
    displayed: Size
    shown_at: Size


@dataclass(frozen=True)
class Sampled:
    """The sampled frames in order, the facts of the clip, and what was decoded for them."""

    frames: list[Taken]
    info: VideoInfo
    work: Work


class ClipReader:
    """One clip and what is asked of it; use as a context, the files are closed after."""

    def __init__(
        self, source: SharedFile, request: Request, threads: int, probe: bool = True
    ) -> None:
        self.request = request
        self.threads = threads
        self._source = source
        self._files = ExitStack()
        self._is_unread = True
        self._probe = probe

    def __enter__(self) -> Self:
        self.video = self._files.enter_context(self._open())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._files.__exit__(kind, error, traceback)

    @property
    def is_probed(self) -> bool:
        """Whether all is known of the stream that decoding its first pictures tells."""
        described = DESCRIBED.get(self.video.demuxer, frozenset())
        return self._probe or self.video.context.name not in described

    def opened(self) -> AbstractContextManager[OpenVideo]:
        """Return the file opened once more."""
        return self._open(self.video.choice)

    def _open(self, choice: Choice | None = None) -> AbstractContextManager[OpenVideo]:
        return open_video(
            self._source,
            self.request.limits,
            self.threads,
            choice,
            probe=self._probe,
            interrupt=self.request.interrupt,
        )

    def rewound(self) -> OpenVideo:
        """Return the file at its first packet, with a decoder that has decoded nothing."""
        if self._is_unread:
            self._is_unread = False
            return self.video
        return self._files.enter_context(self.opened())

    def in_shares(
        self,
        video: OpenVideo,
        items: Sequence[Item],
        decode: Callable[[OpenVideo, Sequence[Item]], Result],
    ) -> list[Result]:
        """Divide `items` among the threads, in order: all shares are decoded side by side, by
        decoders of one thread.
        """
        size = max(-(-len(items) // self.threads), 1)
        video.context.thread_count = 1
        return self.side_by_side(
            video, [items[i : i + size] for i in range(0, len(items), size)], decode
        )

    def side_by_side(
        self,
        video: OpenVideo,
        shares: Sequence[Sequence[Item]],
        decode: Callable[[OpenVideo, Sequence[Item]], Result],
    ) -> list[Result]:
        """Decode the first share in `video`, each other one in a file of its own by a decoder of
        one thread.
        """

        def decode_beside(share: Sequence[Item]) -> Result:
            with self.opened() as own:
                own.context.thread_count = 1
                return decode(own, share)

        if len(shares) == 1:
            return [decode(video, shares[0])]
        with ThreadPoolExecutor(len(shares) - 1) as pool:
            others = [pool.submit(decode_beside, share) for share in shares[1:]]
            return [decode(video, shares[0]), *(other.result() for other in others)]

    @cached_property
    def listing(self) -> tuple[OpenVideo, PacketList]:
        """All packets, listed at the first time of asking, and the file they were read from, whose
        decoder has decoded nothing yet.
        """
        video = self.rewound()
        return video, list_packets(video, self.request.limits)

    def work(self, pictures: int, rule: FrameRule = FrameRule.EXACT) -> Work:
        """Describe the work of decoding so many pictures of this clip, chosen by a rule."""
        context = self.video.context
        return Work(
            codec=context.name,
            depth=self.video.depth,
            pixels=max(context.width, 0) * max(context.height, 0),
            pictures=pictures,
            rule=rule,
        )

    def rule(self, exact: Callable[[], int]) -> FrameRule:
        """Choose the frame rule for this clip; `exact` counts what the exact one would decode."""
        rule = self.request.rule
        return rule if isinstance(rule, FrameRule) else rule(self.work(exact()))

    def begin(self, pictures: int, rule: FrameRule = FrameRule.EXACT) -> Work:
        """Tell that so many pictures, chosen by a rule, are about to be decoded."""
        work = self.work(pictures, rule)
        self.request.before(work)
        return work

    def taker(self, video: OpenVideo) -> Take:
        """Return a function that turns a picture of this decoder into a finished frame."""
        request = self.request
        look = self.viewer(video)

        def take(frame: Any) -> Taken:
            image, displayed, size = look(frame)
            size = request.shown_at or size
            return Taken(request.finish(image, size), displayed, size)

        return take

    def viewer(self, video: OpenVideo) -> Callable[[Any], tuple[Pixels, Size, Size]]:
        """Return a function that gives of a picture of this decoder the upright image, the (height,
        width) at which a player shows it, and the one that the network is to see it at.
        """
        request = self.request

        def look(frame: Any) -> tuple[Pixels, Size, Size]:
            check_picture(frame.width, frame.height, request.limits)
            displayed = displayed_size(frame, video.pixel_aspect)
            if max(displayed) > request.limits.max_side:
                raise ShownTooLarge(
                    width=displayed[1], height=displayed[0], max_side=request.limits.max_side
                )
            image = upright_rgb(frame)
            height, width = image.shape[:2]
            size = displayed if request.pixel_aspect == "displayed" else (height, width)
            return image, displayed, size

        return look
