"""A decoded clip: what `decode_clip` returns."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from model.inputs.sampling import FrameRule
from model.inputs.work import CodecName, Work

Pixels = NDArray[np.uint8]

MOST_SECONDS = 1e9
Seconds = Annotated[float, Field(ge=0, le=MOST_SECONDS)]
Side = Annotated[int, Field(gt=0, le=2**20)]
Sentence = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")]


class VideoWarning(StrEnum):
    """What the sender is told of a clip that was read: fixed sentences, so that a process that is
    not trusted can say no others.
    """

    STREAMS_LEFT_OUT = (
        "the file has several video streams: the one that holds most was taken (its size and "
        "length are in the answer), the others were left out"
    )
    KEY_FRAMES = (
        "the frames in the middle of each segment would have taken too long to decode: others that "
        "are cheaper were taken, their times are in the answer; ask for the first with "
        "frame_rule=exact, of a part of the clip or of one scaled down where decoding times out"
    )
    CUT_OFF = (
        "the file is cut off: it ends within its video, and only what is there was looked at; send "
        "the whole file"
    )
    JOINED = (
        "a second video file follows the first in this one, joined byte by byte, and may not "
        "have been looked at; join them with a video editor or send them one by one"
    )
    HOLE = (
        "a large part of the file holds nothing of the video stream that was looked at: another "
        "programme may stand there, which was left out"
    )
    EMPTY_WINDOWS = (
        "some windows hold no frame of the video, which shows one picture for longer there: they "
        "were left out"
    )
    ONE_FRAME = "the clip has one frame: there is no motion to be seen in it"
    BLACK = "every frame that was looked at is black"
    HDR = (
        "the video is HDR and is not tone-mapped: it looks paler than on a screen; export it as "
        "SDR if the labels depend on colours"
    )
    DOLBY_VISION = (
        "the video is Dolby Vision and is read without Dolby's metadata: its colours may be wrong; "
        "export it as SDR"
    )


def bounded(number: float, digits: int) -> float:
    """Round seconds, or frames a second, that a file claims; more than any video has is the most
    that is told.
    """
    return round(min(number, MOST_SECONDS), digits)


class VideoFacts(BaseModel):
    """Facts of a clip, as an answer has them.

    Every field is bounded and nothing is converted.

    Attributes:
        duration_s: Seconds from the first frame to the end of the last one; None if unknown.
        fps: Frames per second on average; None if unknown.
        width: Pixels as displayed: turned upright, pixels made square.
        height: Pixels as displayed.
        codec: FFmpeg's name of the codec.
        frames: Number of frames in the requested range, from which the sampled ones were chosen.
        frame_rule: Which frame of each segment was taken.
        frame_times_s: Seconds of each sampled frame after the first of the clip, view by view.
    """

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    duration_s: Seconds | None
    fps: Seconds | None
    width: Side
    height: Side
    codec: CodecName
    frames: Annotated[int, Field(gt=0, le=2**31)]
    frame_rule: Annotated[FrameRule, Field(strict=False)] = FrameRule.EXACT
    frame_times_s: tuple[Seconds, ...]


class VideoInfo(VideoFacts):
    """Facts of a clip as it was read, from the decoder to the engine.

    No field is unknown: JSON from a confined process or a shared cache can be validated as it is.

    Attributes:
        warnings: What of the file was left out or is doubtful; an answer has it among its own.
    """

    model_config = ConfigDict(extra="forbid")

    warnings: Annotated[tuple[VideoWarning, ...], Field(max_length=16)] = ()

    def facts(self) -> VideoFacts:
        """Return what an answer says of the clip."""
        return VideoFacts(**self.model_dump(exclude={"warnings"}))


@dataclass(frozen=True)
class Clip:
    """Frames ready for a network, and the facts of the clip they come from.

    `frames` is uint8 RGB, C-contiguous, shape (crops * views, T, H, W, 3), all views of the first
    crop before those of the second; `info.frame_times_s` has views * T values. `work` is what was
    decoded for them, where that is known.
    """

    frames: Pixels
    info: VideoInfo
    work: Work | None = None

    def __post_init__(self) -> None:
        if self.frames.ndim != 5 or self.frames.dtype != np.uint8 or self.frames.shape[-1] != 3:
            raise ValueError(
                f"frames must be uint8 (views, T, H, W, 3), not {self.frames.dtype} "
                f"{self.frames.shape}"
            )
