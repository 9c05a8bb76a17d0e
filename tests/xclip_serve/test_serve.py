"""`xclip-serve serve MODEL`: a bundle as it is, anything else made into one, once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.xclip_serve.conftest import CLIP, LABELS
from xclip_serve import Client

READY = re.compile(r"(http://127\.0\.0\.1:\d+) is ready: (\S+)")


@contextmanager
def serving(*arguments: str, cache: Path) -> Iterator[tuple[str, str, Path]]:
    """Address and name of what is served, and the file with what was said on the way."""
    log = cache.parent / "stderr"
    command = [sys.executable, "-m", "xclip_serve", "serve", *arguments, "--port", "0"]
    environment = {**os.environ, "XCLIP_CACHE": str(cache)}
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if ready := READY.search(line):
                    yield ready[1], ready[2], log
                    break
            else:
                pytest.fail(log.read_text())
        finally:
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
    assert process.returncode == 0


def test_a_bundle_is_served_as_it_is(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with serving("service/demo_bundle", cache=cache) as (url, name, _), Client(url) as client:
        assert name == "shapes-demo"
        assert client.classify(CLIP, LABELS).predictions[0].label == LABELS[0]
    assert not cache.exists()


def test_a_checkpoint_is_made_into_a_bundle_once(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with serving("model/demo", cache=cache) as (url, _, log), Client(url) as client:
        assert "Making a bundle of model/demo, once" in log.read_text()
        first = client.classify(CLIP, LABELS)
        assert first.predictions[0].label == LABELS[0]
    with serving("model/demo", cache=cache) as (url, _, log), Client(url) as client:
        assert "Making" not in log.read_text()
        assert client.classify(CLIP, LABELS).predictions == first.predictions
    (graph,) = (cache / "bundles").glob("*/score_head.onnx")
    graph.write_bytes(b"damaged")
    with serving("model/demo", cache=cache) as (url, _, log), Client(url) as client:
        assert "is damaged; it is made again" in log.read_text()
        assert client.classify(CLIP, LABELS).model.bundle == first.model.bundle


@pytest.mark.parametrize("model", ["nowhere", "docs"])
def test_what_is_no_model_is_told(tmp_path: Path, model: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xclip_serve", "serve", model, "--port", "0"],
        cwd=ROOT, env={**os.environ, "XCLIP_CACHE": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode not in (0, -9)
    assert "Traceback" not in done.stderr
    assert model in done.stderr
    assert not [path for path in (tmp_path / "bundles").iterdir() if path.is_dir()]
