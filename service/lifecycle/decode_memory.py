"""Whether one decode may take the memory that the largest picture allowed needs."""

from __future__ import annotations

import structlog

from service.settings import MIB, Settings

# What a decoder keeps for each pixel of a picture, at most: ten-bit 4:4:4 (6 bytes a pixel) H.264
# with 16 pictures to refer to takes 82 (`python -m benchmarks.decode_memory`). AV1 of ten bits with
# film grain takes 33, eight-bit H.264 with 16 references and PNG of 16 bits 26, ProRes 4444 21.
BYTES_PER_PIXEL = 88


def memory_for_largest_picture(settings: Settings) -> int:
    """Return about how many bytes decoding the largest pictures that are accepted takes."""
    return min(settings.max_pixels, settings.max_side**2) * BYTES_PER_PIXEL


def warn_of_too_little_memory(settings: Settings) -> None:
    """Log one warning where clips may be refused whose size the settings accept."""
    needed = memory_for_largest_picture(settings)
    if needed <= settings.decode_memory_bytes:
        return
    structlog.get_logger("service").warning(
        f"pictures of max_pixels may take about {-(-needed // MIB)} MiB to decode "
        f"({BYTES_PER_PIXEL} bytes a pixel) and decode_memory_bytes allows "
        f"{settings.decode_memory_bytes // MIB}: some will be refused as video_too_demanding; set "
        f"decode_memory_bytes to {needed}, or max_pixels to "
        f"{settings.decode_memory_bytes // BYTES_PER_PIXEL}"
    )
