"""The bundle: a self-describing folder of graphs, tokenizer and label vectors. Needs no torch."""

from export.bundle.errors import BundleError
from export.bundle.labels import LabelSet
from export.bundle.manifest import (
    BundleDescription,
    BundleManifest,
    EngineInfo,
    GraphInfo,
    LabelSetInfo,
    Parity,
    ParityCase,
    PrecisionBuild,
    TensorInfo,
)
from export.bundle.reading import Bundle, open_bundle

__all__ = [
    "Bundle",
    "BundleDescription",
    "BundleError",
    "BundleManifest",
    "EngineInfo",
    "GraphInfo",
    "LabelSet",
    "LabelSetInfo",
    "Parity",
    "ParityCase",
    "PrecisionBuild",
    "TensorInfo",
    "open_bundle",
]
