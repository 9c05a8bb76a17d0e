"""Fixtures shared by every test: the real clips, the corpus of odd files, a fixed random state."""

from __future__ import annotations

import gc
import json
import os
import random
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest

from model.command_line import sleep_while_waiting

ROOT = Path(__file__).resolve().parent.parent
# Which runtime is the fastest hangs on the moment; tests of that choice ask for it themselves.
os.environ.setdefault("XCLIP_RUNTIME", "onnxruntime-cpu")
# Several processes share the cores: a thread of torch that waits for others sleeps.
sleep_while_waiting()
CI = os.environ.get("CI", "").lower() == "true"

# What takes a minute or more begins first, so that no core waits for it at the end.
LONGEST = (
    "tests/model/train/test_crashes.py",
    "tests/model/train/test_two_processes.py",
    "tests/service/hostile/test_schema.py",
    "tests/xclip_serve/test_batch.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files in front."""

    def place(item: pytest.Item) -> int:
        file = item.nodeid.partition("::")[0]
        return LONGEST.index(file) if file in LONGEST else len(LONGEST)

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Leave what the test modules have loaded out of every collection of garbage from here on.

    It is millions of objects: to go through them once takes half a second.
    """
    gc.collect()
    gc.freeze()


def take_no_precedence() -> None:
    """Give this thread the priority of any other.

    SVT-AV1 gives whoever encodes with it as root that of real time, and what is started from there
    inherits it: a driver that waits for its browser then keeps the processor from that browser.
    """
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    """Set up a fixture, which may encode a clip."""
    try:
        return (yield)
    finally:
        take_no_precedence()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Run a test, which may encode a clip."""
    try:
        return (yield)
    finally:
        take_no_precedence()


@dataclass(frozen=True)
class CorpusFile:
    """One odd, broken or hostile upload and what a correct server answers to it."""

    name: str
    path: Path
    category: str
    expect: dict[str, Any]
    entry: dict[str, Any]


def missing(what: str) -> NoReturn:
    """Skip on a laptop, fail in CI: a silent skip there would hide a lost check."""
    if CI:
        pytest.fail(f"{what} is missing, and CI may not skip")
    pytest.skip(f"{what} is missing")


def find_shared() -> Path | None:
    """The folder of shared clips: XCLIP_TEST_SHARED, or `shared` beside the checkout."""
    folder = Path(os.environ.get("XCLIP_TEST_SHARED", ROOT.parent / "shared"))
    return folder if folder.is_dir() else None


def corpus_files() -> list[CorpusFile]:
    """Every file of the corpus manifest; empty where there is no corpus."""
    shared = find_shared()
    if shared is None:
        return []
    manifest = json.loads((shared / "corpus" / "manifest.json").read_text())
    return [
        CorpusFile(e["file"], shared / "corpus" / e["file"], e["category"], e["expect"], e)
        for e in manifest["files"]
    ]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The shared test material; skips where absent, fails in CI."""
    folder = find_shared()
    if folder is None:
        missing("the shared test material (set XCLIP_TEST_SHARED)")
    return folder


@pytest.fixture(scope="session")
def videos(shared_dir: Path) -> dict[str, Path]:
    """The real clips, by name without ending."""
    return {p.stem: p for p in sorted((shared_dir / "videos").iterdir()) if p.suffix != ".md"}


@pytest.fixture(scope="session")
def corpus(shared_dir: Path) -> list[CorpusFile]:
    """Every file of the corpus with what is expected of it."""
    return corpus_files()


def there_and_back(file: Path) -> Path:
    """Write the clip of the documents, and behind it the same backwards: a circle turns round."""
    import av

    with av.open(str(ROOT / "docs" / "clip.mp4")) as clip:
        rate = clip.streams.video[0].average_rate
        pictures = [frame.to_ndarray(format="rgb24") for frame in clip.decode(video=0)]
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in [*pictures, *reversed(pictures)]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return file


@pytest.fixture(autouse=True)
def fixed_random_state() -> Any:
    """Each test starts from the same random state and leaves none behind."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    torch_state = torch.random.get_rng_state() if torch else None
    random.seed(0)
    np.random.seed(0)
    if torch:
        torch.manual_seed(0)
    yield
    random.setstate(python_state)
    np.random.set_state(numpy_state)
    if torch and torch_state is not None:
        torch.random.set_rng_state(torch_state)
