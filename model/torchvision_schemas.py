"""Let torchvision import beside a torch build that its binary operators do not fit.

A torchvision from the package index cannot load its operators beside a CPU-only torch, and then
fails at import because two operator names are unknown. Defining the names is enough for its
transforms and for what imports it. Import this module before torchvision; where torchvision is
healthy or absent it does nothing.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def _operators_load() -> bool:
    """Return whether torchvision's binary registers its operators (True where there is none)."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True
    binaries = sorted(Path(spec.origin).parent.glob("_C*.so"))
    if not binaries:
        return False
    try:
        torch.ops.load_library(str(binaries[0]))
    except OSError:
        return False
    return True


def _define() -> torch.library.Library:
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}{_SCHEMA}")
    return library


# Kept: the names vanish with the object.
LIBRARY = None if _operators_load() else _define()
