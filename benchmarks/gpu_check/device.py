"""Where the check runs: an NVIDIA GPU, or for a rehearsal the processor."""

from __future__ import annotations

import gc
import subprocess
import threading
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch._C._autograd import DeviceType

from benchmarks.lib.matrix_peak import gpu_matrix_peak, matrix_peak
from model.processes import allow_tf32

MIB = 1 << 20
SAMPLE_S = 0.002


class NoGpu(Exception):
    """There is no GPU that torch could use."""


class Device(Protocol):
    """What differs between a GPU and the processor."""

    name: str
    runtimes: tuple[str, ...]

    def about(self) -> dict[str, Any]:
        """Describe the device for the report."""

    def matrix_peak(self, dtype: torch.dtype) -> float:
        """Measure floating-point operations a second of large products."""

    def page_locked(self, frames: np.ndarray) -> np.ndarray:
        """Return a copy from which the device reads fast."""

    def synchronise(self) -> None:
        """Wait until all that was queued is done."""

    def used_mib(self) -> float | None:
        """Return device memory in use, by whomever; None where there is no such thing."""

    def peak_mib(self, run: Callable[[], Any]) -> float | None:
        """Run it; return the most MiB that were in use meanwhile."""

    def kernel_ms(self, run: Callable[[], Any]) -> float | None:
        """Measure the milliseconds that the device computes, copies left out; None: unknown."""


class Processor:
    """The rehearsal. Small products: nobody takes its figures for a GPU's."""

    name = "cpu"
    runtimes: tuple[str, ...] = ("onnxruntime-cpu", "openvino")

    def about(self) -> dict[str, Any]:
        """Says that it is none."""
        return {"device": "rehearsal on the processor, no GPU"}

    def matrix_peak(self, dtype: torch.dtype) -> float:
        """Return that of products that take no time."""
        return matrix_peak(dtype, (256, 512))

    def page_locked(self, frames: np.ndarray) -> np.ndarray:
        """Return them as they are."""
        return frames

    def synchronise(self) -> None:
        """Do nothing: nothing is queued."""

    def used_mib(self) -> float | None:
        """Not asked."""
        return None

    def peak_mib(self, run: Callable[[], Any]) -> float | None:
        """Run it, nothing more."""
        run()
        return None

    def kernel_ms(self, run: Callable[[], Any]) -> float | None:
        """Not known."""
        return None


class Card:
    """The first GPU that torch sees."""

    name = "cuda"
    runtimes: tuple[str, ...] = ("onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt")

    def __init__(self) -> None:
        allow_tf32(False)  # fp32 is fp32 for all of torch's contestants, and for the peak

    def about(self) -> dict[str, Any]:
        """Describe name, memory, driver, and the versions of CUDA that torch brings."""
        card = torch.cuda.get_device_properties(0)
        return {
            "device": card.name,
            "compute_capability": f"{card.major}.{card.minor}",
            "memory_gib": round(card.total_memory / (1 << 30), 1),
            "multiprocessors": card.multi_processor_count,
            "driver": driver_version(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }

    def matrix_peak(self, dtype: torch.dtype) -> float:
        """Measure that of products of up to 16384²."""
        peak = gpu_matrix_peak(dtype)
        _forget()
        return peak

    def page_locked(self, frames: np.ndarray) -> np.ndarray:
        """Copied from there without a detour, whoever copies."""
        return torch.from_numpy(frames).pin_memory().numpy()

    def synchronise(self) -> None:
        """Wait for all streams, also those of other libraries in this process."""
        torch.cuda.synchronize()

    def used_mib(self) -> float | None:
        """Ask the driver, which counts for any library, once torch has given back what it keeps."""
        _forget()
        free, total = torch.cuda.mem_get_info()
        return (total - free) / MIB

    def peak_mib(self, run: Callable[[], Any]) -> float | None:
        """Looked at every two milliseconds: what lives shorter is not seen."""
        with _watched() as seen:
            run()
            torch.cuda.synchronize()
        return max(seen)

    def kernel_ms(self, run: Callable[[], Any]) -> float | None:
        """Ask the driver's profiler, which counts the kernels of all libraries in this process."""
        torch.cuda.synchronize()
        try:
            with torch.profiler.profile(
                activities=[torch.profiler.ProfilerActivity.CUDA]
            ) as profile:
                run()
                torch.cuda.synchronize()
        except RuntimeError:  # a profiler that the machine does not allow
            return None
        kernels = [
            event.time_range.elapsed_us()
            for event in profile.events() or ()
            if event.device_type == DeviceType.CUDA
            and not event.name.startswith(("Memcpy", "Memset"))
        ]
        return sum(kernels) / 1e3 if kernels else None


def find_device(requested: str) -> Device:
    """Find the device of that name; NoGpu says in a line why there is none."""
    if requested == "cpu":
        return Processor()
    if torch.cuda.is_available():
        return Card()
    reason = "this torch is built without CUDA" if torch.version.cuda is None else "no GPU answers"
    raise NoGpu(
        f"no NVIDIA GPU to check: torch {torch.__version__} sees none ({reason}); look at "
        "nvidia-smi, install its driver and a torch with CUDA, or rehearse with --device cpu"
    )


def driver_version() -> str | None:
    """Return it as nvidia-smi says it; None where it is not installed."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(answer.stdout.split()), None)


def _forget() -> None:
    gc.collect()
    torch.cuda.empty_cache()


@contextmanager
def _watched() -> Any:
    """Yield a list that grows by the MiB in use as long as the block lasts."""
    seen: list[float] = []
    ended = threading.Event()

    def look() -> None:
        while True:
            free, total = torch.cuda.mem_get_info()
            seen.append((total - free) / MIB)
            if ended.wait(SAMPLE_S):
                return

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield seen
    finally:
        ended.set()
        watcher.join()
