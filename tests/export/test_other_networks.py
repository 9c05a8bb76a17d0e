"""Networks beside X-CLIP in every precision, measured against their own torch code."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from rich.console import Console

from export.build import BundleOptions, make_bundle
from export.bundle.manifest import PrecisionName
from export.errors import ExportError
from model.checkpoint import LoadedNetwork, read_network
from model.checkpoints.clip_start import BARE
from model.checkpoints.weights import to_layout
from model.network.config import ModelConfig
from model.network.frame_pooling import Pooling
from model.network.xclip import assemble
from model.progress import Steps
from tests.export.conftest import TINY
from tests.model.conftest import randomise
from tests.open_clip_folders import open_clip_folder

QUIET = Steps(Console(quiet=True))
LONG = pytest.mark.long


def check_precisions(loaded: LoadedNetwork, folder: Path) -> None:
    """Make a bundle in all of them: what is too far from torch would be refused."""
    options = BundleOptions(precisions=("fp32", "fp16", "bf16", "int8"), templates=("a {}.",))
    bundle = make_bundle(loaded, folder, options, QUIET)
    measured = {p.precision: p for build in bundle.manifest.precisions for p in build.parity}
    assert {"fp32", "fp16", "int8"} <= measured.keys()
    assert all(parity.passed for parity in measured.values())
    assert measured["fp16"].max_logit_error > measured["fp32"].max_logit_error
    assert bundle.manifest.licence == loaded.licence


@pytest.mark.parametrize(
    ("kind", "pooling"),
    [
        pytest.param("coca", "mean", marks=LONG),
        pytest.param("siglip", "mean", marks=LONG),
        pytest.param("pe-core", "mean", marks=LONG),
        pytest.param("mobileclip2", "mean", marks=LONG),
        ("clip", "mean"),
    ],
)
def test_networks_of_open_clip_stay_within_the_limits(
    kind: str, pooling: Pooling, tmp_path: Path
) -> None:
    source = f"local-dir:{open_clip_folder(kind, tmp_path / kind)}"
    check_precisions(read_network(source, pooling=pooling), tmp_path / "bundle")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_of_pooling_over_tokens_is_refused(
    precision: PrecisionName, tmp_path: Path
) -> None:
    source = f"local-dir:{open_clip_folder('coca', tmp_path / 'coca')}"
    loaded = read_network(source, pooling="tokens")
    with pytest.raises(ExportError, match="cannot be had with --pooling tokens"):
        make_bundle(loaded, tmp_path / "bundle", BundleOptions(precisions=(precision,)), QUIET)
    assert not (tmp_path / "bundle").exists()


def test_frames_that_attend_to_their_neighbours_stay_within_the_limits(tmp_path: Path) -> None:
    config = TINY.model_copy(update={**BARE, "vocab_size": ModelConfig().vocab_size})
    net = assemble(config)
    randomise(net)
    state = {f"model.{name}": t for name, t in to_layout(net.state_dict(), "official").items()}
    torch.save({"model_state": state}, tmp_path / "open-vclip.pth")
    loaded = read_network(tmp_path / "open-vclip.pth", num_frames=4)
    check_precisions(loaded, tmp_path / "bundle")
