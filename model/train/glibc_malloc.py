"""What the C library does with memory that an update gives back."""

from __future__ import annotations

import ctypes

# glibc's malloc.h; the second is the most that glibc accepts on 64 bits.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
NEVER, LARGEST = 2**31 - 1, 32 << 20


def keep_freed_memory() -> bool:
    """Have freed memory kept for the next update instead of given back to the system.

    The activations of an update on a CPU are hundreds of megabytes, and glibc returns them when the
    update is over: the next one has every page of them filled with zeros again, several per cent of
    its time. False where the C library knows no such setting.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(set_option(MMAP_THRESHOLD, LARGEST) and set_option(TRIM_THRESHOLD, NEVER))
