"""Where scores come from: a checkpoint through torch, or a bundle on one of its runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from model.checkpoint import read_network
from model.evaluate.errors import EvaluateError
from model.evaluate.scorer import Scorer, TorchScorer
from model.inputs import Tokenizer
from model.processes import allow_tf32, pick_device

# Named, not imported: this package knows no bundle format and works without the package that does.
BUNDLE_SCORER = "export.scoring:BundleScorer"


MANIFEST = "bundle.json"


@dataclass(frozen=True)
class Source:
    """A scorer, the name of its network (the paper's own for an X-CLIP), and what is known of it.

    `name` is the scorer's without what it runs in, `bytes` the size of its weights.
    """

    scorer: Scorer
    network: str
    name: str
    runs_in: str
    bytes: int
    licence: str | None


def open_source(source: str, device: str, templates: Sequence[str] | None = None) -> Source:
    """Open a bundle on the runtime that serves here, or a checkpoint in torch, fp32."""
    if (Path(source) / MANIFEST).is_file():
        return from_bundle(Path(source), "auto", None, templates)
    return from_checkpoint(source, device, "fp32", None, templates)


def from_checkpoint(
    source: str,
    device: str,
    precision: str,
    frames: int | None,
    templates: Sequence[str] | None = None,
) -> Source:
    """Load anything that `python -m export` takes; its own templates, if not others."""
    loaded = read_network(source, num_frames=frames)
    mine = pick_device(device)
    allow_tf32(False)
    scorer = TorchScorer(
        loaded.net.to(mine),
        loaded.tokenizer or Tokenizer.clip(),
        name=loaded.name,
        device=mine,
        precision=precision,
        templates=loaded.templates if templates is None else templates,
    )
    weights = [*loaded.net.parameters(), *loaded.net.buffers()]
    return Source(
        scorer,
        loaded.net.variant,
        loaded.name,
        f"torch {mine.type} {precision}",
        sum(tensor.nbytes for tensor in weights),
        loaded.licence,
    )


def from_bundle(
    path: Path, runtime: str, precision: str | None, templates: Sequence[str] | None = None
) -> Source:
    """Open a bundle, through the class named above; its ValueErrors say what is wrong with it."""
    try:
        open_scorer: Any = resolve_name(BUNDLE_SCORER)
    except ImportError as error:
        raise EvaluateError(f"scoring with a bundle needs the export package: {error}") from None
    scorer = open_scorer(path, runtime, precision, templates)
    return Source(
        scorer,
        scorer.variant,
        scorer.bundle.manifest.name,
        f"{scorer.runtime.name} {scorer.runtime.precision}",
        scorer.bytes,
        scorer.bundle.manifest.licence,
    )
