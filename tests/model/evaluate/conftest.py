"""A small set of clips, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model.clip_sets import write_set


@pytest.fixture(scope="session")
def clip_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`clips/`, `train.csv` (24 clips of 4 labels) and `val.csv` (8)."""
    return write_set(tmp_path_factory.mktemp("clip-set"))
