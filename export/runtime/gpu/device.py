"""One NVIDIA GPU: a stream in whose order everything happens, and memory on both sides of the bus.

Through CUDA's own Python bindings, which ONNX Runtime and TensorRT both take pointers and streams
from. Host memory is pinned: the card reads it by itself, at the full speed of the bus.
"""

from __future__ import annotations

import ctypes
import math
import threading
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.runtime.errors import DeviceMemoryError, RuntimeUnavailableError

DEVICE = 0
ALIGNMENT = 256  # bytes; TensorRT takes no other addresses
KEEP_EVERYTHING = 2**63 - 1
OUT_OF_MEMORY = 2  # cudaErrorMemoryAllocation
NO_DRIVER, NO_DEVICE = 35, 100  # cudaErrorInsufficientDriver, cudaErrorNoDevice

Array = NDArray[Any]


@dataclass(frozen=True)
class DeviceArray:
    """A packed array on the device; `owner` keeps its memory for as long as anybody has it."""

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: object = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole array."""
        return math.prod(self.shape) * self.dtype.itemsize

    def rows(self, first: int, last: int) -> DeviceArray:
        """Slice the first axis; the memory is shared."""
        row = self.nbytes // max(1, self.shape[0])
        shape = (last - first, *self.shape[1:])
        return DeviceArray(self.pointer + first * row, shape, self.dtype, self.owner)


class Device:
    """Memory and copies of the first GPU, at most `memory_bytes` of it at a time.

    Whoever uses the stream holds `turn`: calls come from several threads.
    """

    def __init__(self, cuda: Any, memory_bytes: int | None = None) -> None:
        self._cuda, self._limit = cuda, memory_bytes
        self.turn = threading.RLock()
        self.stream = int(self._do("cudaStreamCreateWithFlags", cuda.cudaStreamNonBlocking))
        # What is freed stays with the process for the next call, instead of going back each time.
        pool = self._do("cudaDeviceGetDefaultMemPool", DEVICE)
        threshold = cuda.cudaMemPoolAttr.cudaMemPoolAttrReleaseThreshold
        self._do("cudaMemPoolSetAttribute", pool, threshold, _uint64(KEEP_EVERYTHING))
        self._counting = threading.RLock()
        self._held = 0
        self._pinned, self._pinned_bytes = 0, 0
        self._copying = False

    @property
    def held_bytes(self) -> int:
        """Device memory that is in use."""
        return self._held

    def empty(self, shape: tuple[int, ...], dtype: Any = np.float32) -> DeviceArray:
        """Allocate an array; DeviceMemoryError where there is no memory left."""
        kind = np.dtype(dtype)
        nbytes = max(1, math.prod(shape) * kind.itemsize)
        with self._counting:
            if self._limit is not None and self._held + nbytes > self._limit:
                raise _full(nbytes, f"{self._limit / 1e6:.0f} MB are allowed")
            pointer = int(self._do("cudaMallocAsync", nbytes, self.stream))
            self._held += nbytes
        owner = _Owner()
        freed = weakref.finalize(owner, self._free, pointer, nbytes)
        freed.atexit = False  # the driver takes it all back then, and may be gone already
        return DeviceArray(pointer, shape, kind, owner)

    def set_aside(self, nbytes: int, what: str) -> None:
        """Count memory that a library takes by itself; DeviceMemoryError where it is too much."""
        with self._counting:
            if self._limit is not None and self._held + nbytes > self._limit:
                raise DeviceMemoryError(
                    f"{what} needs {nbytes / 1e6:.0f} MB of device memory, of which "
                    f"{(self._limit - self._held) / 1e6:.0f} MB are left; raise "
                    "XCLIP_GPU_MEMORY_BYTES, or serve fp16"
                )
            self._held += nbytes

    def upload(
        self,
        arrays: Mapping[str, Array | DeviceArray],
        targets: Mapping[str, DeviceArray] | None = None,
    ) -> dict[str, DeviceArray]:
        """Copy to the device, through pinned memory, the arrays that are not there yet.

        To `targets` of the same sizes, or to new memory.
        """
        host = {name: a for name, a in arrays.items() if not isinstance(a, DeviceArray)}
        on_device = targets or {name: self.empty(a.shape, a.dtype) for name, a in host.items()}
        address = self._staging(sum(_padded(array.nbytes) for array in host.values()))
        for name, array in host.items():
            # Straight into pinned memory, also from a broadcast view, which is never made whole.
            np.copyto(_view(address, array.shape, array.dtype), array)
            self._copy(on_device[name].pointer, address, array.nbytes, "cudaMemcpyHostToDevice")
            address += _padded(array.nbytes)
        return {
            name: a if isinstance(a, DeviceArray) else on_device[name] for name, a in arrays.items()
        }

    def download(self, arrays: Mapping[str, DeviceArray]) -> dict[str, Array]:
        """Copy the arrays to host memory, through pinned memory."""
        with self.turn:
            start = address = self._staging(sum(_padded(a.nbytes) for a in arrays.values()))
            for array in arrays.values():
                self._copy(address, array.pointer, array.nbytes, "cudaMemcpyDeviceToHost")
                address += _padded(array.nbytes)
            self.synchronize()
            result = {}
            for name, array in arrays.items():
                result[name] = _view(start, array.shape, array.dtype).copy()
                start += _padded(array.nbytes)
            return result

    def join(self, parts: Iterable[DeviceArray]) -> DeviceArray:
        """Concatenate arrays along the first axis, on the device."""
        listed = list(parts)
        rows = sum(part.shape[0] for part in listed)
        whole = self.empty((rows, *listed[0].shape[1:]), listed[0].dtype)
        address = whole.pointer
        for part in listed:
            self._copy(address, part.pointer, part.nbytes, "cudaMemcpyDeviceToDevice")
            address += part.nbytes
        return whole

    def synchronize(self) -> None:
        """Wait until the stream is done; an error on the way shows here."""
        self._do("cudaStreamSynchronize", self.stream)
        self._copying = False

    def close(self) -> None:
        """Free the pinned memory; arrays that are still held are freed with their holders."""
        with self.turn:
            self.synchronize()
            if self._pinned:
                self._do("cudaFreeHost", self._pinned)
            self._pinned, self._pinned_bytes = 0, 0

    def _staging(self, nbytes: int) -> int:
        """Return pinned memory that no copy uses; it is kept for the next call."""
        if self._copying:
            self.synchronize()
        if nbytes > self._pinned_bytes:
            if self._pinned:
                self._do("cudaFreeHost", self._pinned)
                self._pinned, self._pinned_bytes = 0, 0
            self._pinned = int(self._do("cudaHostAlloc", nbytes, self._cuda.cudaHostAllocDefault))
            self._pinned_bytes = nbytes
        return self._pinned

    def _copy(self, to: int, source: int, nbytes: int, kind: str) -> None:
        if nbytes:
            self._copying = True
            direction = getattr(self._cuda.cudaMemcpyKind, kind)
            self._do("cudaMemcpyAsync", to, source, nbytes, direction, self.stream)

    def _free(self, pointer: int, nbytes: int) -> None:
        with self._counting:
            self._held -= nbytes
        self._cuda.cudaFreeAsync(pointer, self.stream)

    def _do(self, call: str, *arguments: Any) -> Any:
        """Call CUDA; return the value, or raise what its status says."""
        status, *values = getattr(self._cuda, call)(*arguments)
        if status.value == OUT_OF_MEMORY:
            raise _full(arguments[0] if isinstance(arguments[0], int) else 0, f"{call} says")
        if status.value:
            raise RuntimeError(f"{call} says {status.name}")
        return values[0] if values else None


class _Owner:
    """Stands for a piece of device memory; when nobody has it any more, the memory is free."""


def load_cuda() -> Any:
    """Import CUDA's runtime bindings and check that a GPU answers."""
    try:
        from cuda.bindings import runtime as cuda
    except (ImportError, OSError) as error:
        raise RuntimeUnavailableError(
            f"CUDA's Python bindings are not installed ({error}); install xclip-serve[gpu]"
        ) from error
    status, count = cuda.cudaGetDeviceCount()
    if status.value == NO_DRIVER:
        raise RuntimeUnavailableError(_driver(cuda))
    if status.value not in (0, NO_DEVICE):
        raise RuntimeUnavailableError(
            f"the NVIDIA GPU does not answer ({status.name}); check it with nvidia-smi"
        )
    if status.value or not count:
        raise RuntimeUnavailableError(
            "no NVIDIA GPU can be seen; check nvidia-smi and CUDA_VISIBLE_DEVICES, and give a "
            "container its GPU (docker run --gpus all)"
        )
    return cuda


def gpu_architecture(cuda: Any) -> str:
    """Return the first GPU's compute capability, as `sm_90`."""
    status, properties = cuda.cudaGetDeviceProperties(DEVICE)
    if status.value:
        raise RuntimeUnavailableError(f"the NVIDIA GPU does not answer ({status.name})")
    return f"sm_{properties.major}{properties.minor}"


def _driver(cuda: Any) -> str:
    """Say what is wrong with the driver: missing, or older than the libraries."""
    driver, needed = cuda.cudaDriverGetVersion()[1], cuda.cudaRuntimeGetVersion()[1]
    if not driver:
        return "no NVIDIA driver is installed here; install one, or choose onnxruntime-cpu"
    return (
        f"the NVIDIA driver is too old: it knows CUDA {_version(driver)}, the libraries here are "
        f"made for {_version(needed)}; install a newer driver"
    )


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _full(nbytes: int, why: str) -> DeviceMemoryError:
    return DeviceMemoryError(
        f"the GPU has no memory left for {nbytes / 1e6:.1f} MB more ({why}); lower the batch size"
    )


def _padded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _view(pointer: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return host memory at an address as an array."""
    nbytes = math.prod(shape) * dtype.itemsize
    if not nbytes:
        return np.empty(shape, dtype)
    raw = memoryview((ctypes.c_uint8 * nbytes).from_address(pointer))
    return np.frombuffer(raw, dtype).reshape(shape)


def _uint64(value: int) -> Any:
    from cuda.bindings import driver

    return driver.cuuint64_t(value)
