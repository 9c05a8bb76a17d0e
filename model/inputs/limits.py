"""How large a clip may be. Checked before decoding, and again while decoding."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Limit = Annotated[int, Field(gt=0)]


class VideoLimits(BaseModel):
    """Bounds on one clip. The defaults take a 4K phone video of half an hour."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_pixels: Limit = 4096 * 2304
    max_side: Limit = 8192
    max_duration_s: Annotated[float, Field(gt=0)] = 1800.0
    max_frames: Limit = 120_000
    max_streams: Limit = 64
