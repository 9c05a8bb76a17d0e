"""A clip of 400 bytes a frame, for trying whether decoding works at all."""

from __future__ import annotations

_HEADER = b"YUV4MPEG2 W16 H16 F25:1 Ip A1:1 C420jpeg\n"
_FRAME = b"FRAME\n" + bytes(16 * 16 * 3 // 2)

# Two green pictures of 16 pixels a side, uncompressed.
SAMPLE_CLIP = _HEADER + 2 * _FRAME
