"""Bound what FFmpeg may allocate at once, for the whole process.

A file of a few hundred bytes can claim an index of gigabytes, and no option of the demuxers
bounds it. libavutil has a process-wide limit on single allocations that PyAV does not expose.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import av


def limit_libav_allocations(max_bytes: int) -> None:
    """Let no single libav allocation exceed `max_bytes`; call once in a process that decodes.

    64 MiB holds a picture of 8192x4320 pixels; larger pictures then fail to decode. Raises
    RuntimeError where the library that PyAV uses cannot be found.
    """
    if max_bytes <= 0:
        raise ValueError(f"max_bytes must be positive, not {max_bytes}")
    limit = ctypes.CDLL(str(_libavutil())).av_max_alloc
    limit.argtypes, limit.restype = [ctypes.c_size_t], None
    limit(max_bytes)


def _libavutil() -> Path:
    """Return the very file that is mapped into this process, else the one shipped beside PyAV."""
    maps = Path("/proc/self/maps")
    if maps.exists():
        for line in maps.read_text().splitlines():
            path = line.split(maxsplit=5)[-1]
            if "/libavutil" in path:
                return Path(path)
    package = Path(av.__file__).parent
    for pattern in ("av.libs/libavutil*", "av/.dylibs/libavutil*"):
        for file in sorted(package.parent.glob(pattern)):
            return file
    raise RuntimeError("the libavutil that PyAV uses was not found; install PyAV from its wheel")
