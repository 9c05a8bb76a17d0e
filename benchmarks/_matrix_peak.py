"""The most that a machine multiplies: what every other speed is a share of."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch

SIZES, ROUNDS = (1024, 2048, 4096), 6
GPU_SIZES, GPU_PRODUCTS = (4096, 8192, 16384), 10


def matrix_peak(dtype: torch.dtype, sizes: Sequence[int] = SIZES) -> float:
    """Floating-point operations a second of the best single product on the processor."""
    best = 0.0
    for size in sizes:
        a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
        for _ in range(ROUNDS):
            started = time.perf_counter()
            torch.mm(a, b)
            best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def gpu_matrix_peak(dtype: torch.dtype, sizes: Sequence[int] = GPU_SIZES) -> float:
    """The same on the GPU: by its own clock, the median of several runs of ten products.

    Of random numbers: a GPU multiplies zeros faster than anything that has to be multiplied.
    """
    return max(_rate(dtype, size) for size in sizes)


def _rate(dtype: torch.dtype, size: int) -> float:
    a, b = (torch.randn(size, size, device="cuda").to(dtype) for _ in range(2))
    out = torch.empty_like(a)

    def products() -> None:
        for _ in range(GPU_PRODUCTS):
            torch.mm(a, b, out=out)

    products()
    seconds = statistics.median(event_seconds(products) for _ in range(ROUNDS))
    return GPU_PRODUCTS * 2 * size**3 / seconds


def event_seconds(run: Callable[[], object]) -> float:
    """Seconds on the GPU's own clock from before what `run` queues to its end."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3
