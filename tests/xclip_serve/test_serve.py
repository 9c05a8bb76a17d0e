"""`xclip-serve serve MODEL`: a bundle as it is, anything else made into one, once."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from export.bundle import open_bundle
from service.settings import DEMO_BUNDLE
from tests.conftest import ROOT
from tests.export.conftest import TINY, randomised
from tests.model.conftest import huggingface_folder
from tests.open_clip_folders import open_clip_folder
from tests.xclip_serve.conftest import CLIP, LABELS
from xclip_serve import Client, made_bundles
from xclip_serve.made_bundles import bundle_of

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


def test_the_fastest_is_measured_once_and_told(tmp_path: Path) -> None:
    asked = ("--runtime", "auto", "--precision", "auto", "--cache", str(tmp_path / "cache"))
    told = []
    for _ in range(2):
        with serving("service/demo_bundle", *asked, cache=tmp_path / "other") as (url, _name, _log):
            told.append(httpx.get(f"{url}/readyz", timeout=None).json()["selection"])
    assert told[0] == told[1]  # to the digit: nothing was measured again
    assert len(list((tmp_path / "cache" / "fastest").iterdir())) == 1
    assert [line.split(" takes ")[0] for line in told[0][-3:-1]] == [
        "onnxruntime-cpu: fp32",
        "openvino: fp32",
    ]
    assert told[0][-1].endswith(": taken")


def huggingface(folder: Path) -> str:
    """A small X-CLIP as transformers saves it."""
    config = TINY.model_copy(update={"vocab_size": 49408, "context_length": 77})
    return str(huggingface_folder(randomised(config), folder / "small-xclip"))


def open_clip(folder: Path) -> str:
    return f"local-dir:{open_clip_folder('clip', folder / 'small-clip')}"


@pytest.mark.parametrize("write", [huggingface, open_clip])
def test_a_folder_of_weights_is_made_into_a_bundle_once(
    tmp_path: Path, write: Callable[[Path], str]
) -> None:
    source, cache = write(tmp_path), tmp_path / "cache"
    with serving(source, cache=cache) as (url, _, log), Client(url) as client:
        assert f"Making a bundle of {source}, once" in log.read_text()
        first = client.classify(CLIP, LABELS)
    (bundle,) = (path for path in (cache / "bundles").iterdir() if path.is_dir())
    made = {file: file.stat().st_mtime_ns for file in bundle.rglob("*")}
    with serving(source, cache=cache) as (url, _, log), Client(url) as client:
        assert "Making" not in log.read_text()
        assert client.classify(CLIP, LABELS).predictions == first.predictions
    assert made == {file: file.stat().st_mtime_ns for file in bundle.rglob("*")}


def test_a_damaged_bundle_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def export(model: str, bundle: Path) -> None:
        shutil.copytree(DEMO_BUNDLE, bundle)

    monkeypatch.setattr(made_bundles, "_export", export)
    model = tmp_path / "weights.pth"
    model.write_bytes(b"weights")
    made = bundle_of(str(model), tmp_path / "cache")
    (made / "score_head.onnx").write_bytes(b"damaged")
    assert bundle_of(str(model), tmp_path / "cache") == made
    assert capsys.readouterr().err == f"{made} is damaged; it is made again\n"
    open_bundle(made)


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


def test_make_serves_a_model_with_what_exporting_needs() -> None:
    """What it runs is what is run above, in an environment with torch that it sets up before."""
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", "serve", "MODEL=local-dir:a b", "PORT=0",
         "HOST=127.0.0.1"],
        cwd=ROOT, capture_output=True, text=True, check=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
    )  # fmt: skip
    *before, serve = done.stdout.splitlines()
    assert serve == (
        "exec .venv-export/bin/python -m xclip_serve serve "
        '"local-dir:a b" --host "127.0.0.1" --port "0"'
    )
    for line in before:  # none where it was set up before
        assert "pip install" not in line or line.endswith("'.[cpu,export]'")
