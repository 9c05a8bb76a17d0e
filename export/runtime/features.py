"""Features of clips, split and joined wherever they lie: in host memory, or still on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from export.runtime.gpu.device import Device, DeviceArray

Vectors = NDArray[np.float32]
Features = Mapping[str, Vectors]


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
        """Have the host's copy at hand: to look at it then waits for nothing."""
        missing = {name: a for name, a in self.arrays.items() if name not in self._host}
        if missing:
            self._host |= self.device.download(missing)

    def split(self, counts: Sequence[int]) -> list[DeviceFeatures]:
        """Parts of so many clips each, in order, in the same device memory, each on the host too.

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
    device: Device, features: Features, names: Sequence[str]
) -> Mapping[str, DeviceArray]:
    """Features of the device as they lie there; others are brought up, for several runs."""
    if isinstance(features, DeviceFeatures) and features.device is device:
        return {name: features.arrays[name] for name in names}
    with device.turn:
        return device.upload({name: features[name] for name in names})


def clip_count(features: Features, name: str) -> int:
    """How many clips a feature is of; nothing is copied to find out."""
    if isinstance(features, DeviceFeatures):
        return features.arrays[name].shape[0]
    return len(features[name])


def split_features(features: Features, counts: Sequence[int]) -> list[Features]:
    """Parts of so many clips each. Each part's arrays are its own: none keeps the whole batch."""
    if isinstance(features, DeviceFeatures):
        return list(features.split(counts))
    if len(counts) == 1:
        return [features]
    ends = np.cumsum(counts)
    return [
        {name: array[end - count : end].copy() for name, array in features.items()}
        for count, end in zip(counts, ends, strict=True)
    ]


def join_features(parts: Sequence[Features]) -> Features:
    """Features of several lists of clips as those of one; on the device where all of them are."""
    if len(parts) == 1:
        return parts[0]
    there = [part for part in parts if isinstance(part, DeviceFeatures)]
    if len(there) == len(parts) and all(part.device is there[0].device for part in there):
        device = there[0].device
        with device.turn:
            names = there[0].arrays
            joined = {name: device.join([part.arrays[name] for part in there]) for name in names}
        return DeviceFeatures(device, joined)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
