"""Features of clips in device memory, copied to the host only when somebody reads them there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from export.runtime.gpu.device import Device, DeviceArray

Vectors = NDArray[np.float32]


class DeviceFeatures(Mapping[str, Vectors]):
    """What a graph put out, on the device; it comes to the host when somebody looks at it, once.

    To any caller a mapping of numpy arrays. Handed on to another graph of the same runtime nothing
    is copied. Holds device memory for as long as it lives: `dict(features)` does not.
    """

    def __init__(self, device: Device, arrays: Mapping[str, DeviceArray]) -> None:
        self.device, self.arrays = device, dict(arrays)
        self._host: dict[str, Vectors] = {}

    def __getitem__(self, name: str) -> Vectors:
        if name not in self.arrays:
            raise KeyError(name)
        if name not in self._host:
            self._host |= self.device.download({name: self.arrays[name]})
        return self._host[name]

    def __contains__(self, name: object) -> bool:
        return name in self.arrays  # Mapping's own would look, and so copy

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def fetch(self) -> None:
        """Copy to the host what is not there yet, so that reading it later does not wait."""
        missing = {name: a for name, a in self.arrays.items() if name not in self._host}
        if missing:
            self._host |= self.device.download(missing)

    def split(self, counts: Sequence[int]) -> list[DeviceFeatures]:
        """Split into parts of `counts` clips, views of the same device memory with host copies.

        They come down together, in one copy: each part's holder will want to keep it, and not the
        whole batch.
        """
        self.fetch()
        if len(counts) == 1:
            return [self]
        parts, first = [], 0
        for count in counts:
            last = first + count
            arrays = {name: array.rows(first, last) for name, array in self.arrays.items()}
            part = DeviceFeatures(self.device, arrays)
            part._host = {name: self[name][first:last].copy() for name in self}
            parts.append(part)
            first = last
        return parts


def on_device(
    device: Device, features: Mapping[str, Vectors], names: Sequence[str]
) -> Mapping[str, DeviceArray]:
    """Return features in device memory, uploading those that are in host memory."""
    if isinstance(features, DeviceFeatures) and features.device is device:
        return {name: features.arrays[name] for name in names}
    with device.turn:
        return device.upload({name: features[name] for name in names})
