"""A tiny network with weights that show every mistake, and the bundle made of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from export.build import BundleOptions, make_bundle
from export.bundle import Bundle, GraphInfo
from export.tracing import Traced
from model.checkpoint import Checkpoint, save_checkpoint
from model.inputs import Tokenizer
from model.network.config import ModelConfig
from model.network.initialise import build_xclip
from model.network.xclip import XClip
from model.progress import Steps
from tests.export.runtime.gpu_standins import card

MERGES = 100
TINY = ModelConfig(
    image_size=32,
    patch_size=16,
    num_frames=4,
    vision_width=128,
    vision_layers=2,
    embed_dim=64,
    text_width=64,
    text_layers=2,
    vocab_size=MERGES + 514,
    context_length=48,
)


def randomised(config: ModelConfig) -> XClip:
    """Biases and norms that are not 0 and 1, so that leaving one out is seen."""
    net = build_xclip(config, seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in net.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.ndim == 0:
                p.fill_(4.6)
            elif p.ndim > 1:
                p.copy_(0.7 * noise / p.shape[-1] ** 0.5)
            else:
                p.copy_(0.2 * noise + name.endswith(("weight", "alpha")))
    return net


def checkpoint_of(config: ModelConfig, *, trained: bool = True) -> Checkpoint:
    """The tiny network as if it had been read from somewhere."""
    tokenizer = Tokenizer.truncated(MERGES)
    return Checkpoint(randomised(config), "tiny", "made by a test", trained, tokenizer)


@pytest.fixture(scope="session")
def tiny_checkpoint() -> Checkpoint:
    """The tiny network."""
    return checkpoint_of(TINY)


@pytest.fixture(scope="session")
def label_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A label list of three."""
    path = tmp_path_factory.mktemp("labels") / "three.csv"
    path.write_text("id,name\n0,swim\n1,ride a bike\n2,kick ball\n")
    return path


@pytest.fixture(scope="session")
def tiny_bundle(
    tiny_checkpoint: Checkpoint, label_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """A bundle in fp32 and int8 with one label list. Not to be changed: copy it first."""
    output = tmp_path_factory.mktemp("bundles") / "tiny"
    options = BundleOptions(label_files=(label_file,), precisions=("fp32", "int8"))
    return make_bundle(tiny_checkpoint, output, options, Steps(Console(quiet=True)))


@pytest.fixture(scope="session")
def engines_bundle(
    tiny_checkpoint: Checkpoint, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """A bundle in fp16 and fp32 with engines, made with stand-ins for a card and its libraries."""
    output = tmp_path_factory.mktemp("bundles") / "engines"
    options = BundleOptions(precisions=("fp32", "fp16"), tensorrt=True)
    with pytest.MonkeyPatch.context() as patch, card(runtime=False):
        copy_graphs(patch, tiny_bundle)
        return make_bundle(tiny_checkpoint, output, options, Steps(Console(quiet=True)))


def copy_graphs(patch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    """Have graphs of the tiny network taken from its bundle: tracing takes longer than all else."""

    def traced_before(traced: Traced, folder: Path) -> GraphInfo:
        info = bundle.manifest.graphs[traced.name]
        shutil.copy(bundle.file(info.file), folder)
        return info

    patch.setattr("export.build.write_graph", traced_before)


@pytest.fixture
def traced_before(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Bundle) -> None:
    """Graphs of the tiny network are there already."""
    copy_graphs(monkeypatch, tiny_bundle)


@pytest.fixture
def variant(tmp_path: Path) -> Callable[..., Bundle]:
    """Makes a bundle of the tiny network with other settings."""

    def make(**changes: Any) -> Bundle:
        shallow = {"vision_layers": 1, "text_layers": 1}
        checkpoint = checkpoint_of(TINY.model_copy(update=shallow | changes))
        return make_bundle(
            checkpoint, tmp_path / "variant", BundleOptions(), Steps(Console(quiet=True))
        )

    return make


@pytest.fixture
def random_folder(tmp_path: Path) -> Callable[[ModelConfig], Path]:
    """Makes a native checkpoint folder of an architecture, every weight random."""

    def make(config: ModelConfig) -> Path:
        return save_checkpoint(
            randomised(config), tmp_path / "checkpoint", source="random", trained=False
        )

    return make


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Two suites may run side by side on two processors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
