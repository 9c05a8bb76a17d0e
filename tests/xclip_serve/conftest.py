"""A real server, a classifier of the embedded bundle, and a network to train."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.service.conftest import RunningServer, running
from xclip_serve import Classifier

CLIP = ROOT / "docs" / "clip.mp4"
LABELS = ["a red circle moving left", "a red circle moving right"]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def classifier() -> Iterator[Classifier]:
    with Classifier(decode_workers=1) as opened:
        yield opened


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny network that knows nothing."""
    from model.checkpoint import save_checkpoint
    from model.train.initial_model import make_initial_model
    from tests.model.clip_sets import tiny_config

    folder = tmp_path_factory.mktemp("start")
    initial = make_initial_model(tiny_config(folder, folder).start, seed=3)
    save_checkpoint(
        initial.net, folder / "net", tokenizer=initial.tokenizer, name="tiny", source="a test"
    )
    return folder / "net"
