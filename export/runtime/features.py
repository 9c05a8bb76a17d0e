"""Features of clips, split and joined wherever they lie: in host memory, or still on the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from export.runtime.gpu.device_features import DeviceFeatures

Vectors = NDArray[np.float32]
Features = Mapping[str, Vectors]


def clip_count(features: Features, name: str) -> int:
    """Count the clips that a feature is of, without copying it to the host."""
    if isinstance(features, DeviceFeatures):
        return features.arrays[name].shape[0]
    return len(features[name])


def split_features(features: Features, counts: Sequence[int]) -> list[Features]:
    """Split into parts of `counts` clips. Parts are copies: none keeps the whole batch alive."""
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
    """Concatenate features along the clips; on the device where all of them are."""
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
