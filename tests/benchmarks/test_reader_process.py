"""Readers that fail, give too little or other frames, or end their process are left out; the others
go on.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.lib.reader_process import FRAMES, CannotRun, Fetch, ReaderProcess

NOWHERE = Path("no file")
PICTURES = np.random.default_rng(0).integers(0, 255, (FRAMES, 40, 60, 3), np.uint8)
MIDDLES = PICTURES[:, 4:36, 14:46]


def prepare(name: str, path: Path, threads: int) -> Fetch | None:
    fetches: dict[str, Fetch | None] = {
        "good": lambda: [0] * FRAMES,
        "counts": lambda: 1000,
        "too few": lambda: [0] * (FRAMES - 1),
        "nothing": lambda: [None] * FRAMES,
        "fails": lambda: 1 / 0,
        "ends": lambda: os._exit(3),
        "hangs": lambda: threading.Event().wait(),
        "none": None,
        "pictures": lambda: list(PICTURES),
        "other colours": lambda: list(PICTURES[..., ::-1] // 2 * 2),
        "channels first": lambda: PICTURES.transpose(0, 3, 1, 2),
        "one beside": lambda: np.roll(PICTURES, 1, axis=0),
    }
    return fetches[name]


@pytest.fixture
def process() -> Iterator[ReaderProcess]:
    made = ReaderProcess(prepare)
    yield made
    made.close()


def test_a_reader_has_as_many_turns_as_it_is_given(process: ReaderProcess) -> None:
    for name in ("good", "counts"):
        first = process.prepare(name, NOWHERE, 1)
        assert first is not None
        assert min(first, process.turn(name), process.turn("good")) >= 0
    assert process.prepare("none", NOWHERE, 1) is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("too few", "ValueError: no 8 frames"),
        ("nothing", "ValueError: no 8 frames"),
        ("fails", "ZeroDivisionError"),
        ("ends", "ended its process"),
    ],
)
def test_who_cannot_run_is_told_and_the_others_go_on(
    process: ReaderProcess, name: str, why: str
) -> None:
    with pytest.raises(CannotRun, match=why):
        process.prepare(name, NOWHERE, 2)
    assert process.prepare("good", NOWHERE, 2) is not None


@pytest.mark.parametrize("name", ["pictures", "other colours", "channels first"])
def test_who_gives_the_frames_asked_for_counts(process: ReaderProcess, name: str) -> None:
    assert process.prepare(name, NOWHERE, 1, MIDDLES) is not None


def test_who_gives_other_frames_does_not_count(process: ReaderProcess) -> None:
    with pytest.raises(CannotRun, match="frame 0 is another one"):
        process.prepare("one beside", NOWHERE, 1, MIDDLES)
    assert process.prepare("one beside", NOWHERE, 1) is not None


def test_who_does_not_return_is_given_up() -> None:
    process = ReaderProcess(prepare, longest_s=0.01)
    with pytest.raises(CannotRun, match=r"not done in 0\.01 s"):
        process.prepare("hangs", NOWHERE, 1)
    assert process._connection is None
