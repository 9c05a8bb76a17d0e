"""A real server and a classifier of the embedded bundle."""

from __future__ import annotations

from collections.abc import Iterator

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
