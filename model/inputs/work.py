"""How much decoding a clip takes: what a server needs to know to choose the frame rule by cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from model.inputs.sampling import FrameRule

CodecName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]
Pictures = Annotated[int, Field(ge=0, le=2**31)]


class Work(BaseModel):
    """Pictures that are decoded, and of which kind.

    Attributes:
        codec: FFmpeg's name of the decoder.
        depth: Bits of a sample; 0 if unknown.
        pixels: Width times height of a picture as it is coded.
        pictures: Number of pictures.
        rule: By which they were chosen: key frames cost several times what others do.
        seconds: Processor time that decoding them took; 0 where it was not measured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    codec: CodecName
    depth: Annotated[int, Field(ge=0, le=32)]
    pixels: Annotated[int, Field(ge=0, le=2**40)]
    pictures: Pictures
    rule: FrameRule = FrameRule.EXACT
    seconds: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = 0.0


# Chooses a rule from what the exact one would take.
RuleByWork = Callable[[Work], FrameRule]
