"""A tiny network as bundle and as transformers' folder, and a clip: the pieces run in seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.lib.pretrained import save_pretrained
from export.build import BundleOptions, make_bundle
from export.bundle import Bundle
from model.checkpoint import Checkpoint
from model.progress import Steps
from tests.export.conftest import TINY, checkpoint_of
from tests.service.conftest import clip_bytes


@pytest.fixture(scope="session")
def tiny() -> Checkpoint:
    return checkpoint_of(TINY)


@pytest.fixture(scope="session")
def bundle(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    return make_bundle(tiny, folder, BundleOptions(), Steps(Console(quiet=True)))


@pytest.fixture(scope="session")
def folder(tiny: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transformers")
    assert tiny.tokenizer is not None
    save_pretrained(tiny.net, tiny.tokenizer, folder)
    return folder


@pytest.fixture(scope="session")
def clip() -> bytes:
    return clip_bytes()
