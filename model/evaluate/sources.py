"""Where scores come from: a checkpoint through torch, or a bundle on one of its runtimes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from model.checkpoint import read_checkpoint
from model.evaluate.errors import EvaluateError
from model.evaluate.paper import network_name
from model.evaluate.scorer import Scorer, TorchScorer
from model.inputs import Tokenizer
from model.network.config import VARIANTS
from model.processes import allow_tf32, pick_device

# Named, not imported: this package knows no bundle format and works without the package that does.
BUNDLE_SCORER = "export.scoring:BundleScorer"


@dataclass(frozen=True)
class Source:
    """A scorer and, where it is known, the paper's name for the network."""

    scorer: Scorer
    network: str


def from_checkpoint(source: str, device: str, precision: str, frames: int | None) -> Source:
    """Anything that `python -m model.convert` takes."""
    found = read_checkpoint(source, num_frames=frames)
    mine = pick_device(device)
    allow_tf32(False)
    scorer = TorchScorer(
        found.net.to(mine),
        found.tokenizer or Tokenizer.clip(),
        name=found.name,
        device=mine,
        precision=precision,
    )
    return Source(scorer, network_name(found.net.config))


def from_bundle(path: Path, runtime: str, precision: str | None) -> Source:
    """A bundle, through the class named above; its own ValueErrors say what is wrong with it."""
    try:
        open_scorer: Any = resolve_name(BUNDLE_SCORER)
    except ImportError as error:
        raise EvaluateError(f"scoring with a bundle needs the export package: {error}") from None
    scorer = open_scorer(path, runtime, precision)
    config = VARIANTS.get(scorer.variant)
    return Source(scorer, network_name(config) if config else "bundle")
