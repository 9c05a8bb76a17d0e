"""A new bundle under load (SIGHUP): swapped once, or refused, and nobody notices."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from export.bundle import open_bundle
from service.settings import DEMO_BUNDLE
from tests.service.conftest import clip_bytes
from tests.service.steady_load import SteadyLoad, statuses

ROOT = Path(__file__).resolve().parents[2]
CLIP = clip_bytes()


def another_bundle(folder: Path, name: str) -> str:
    """A bundle like the embedded one under another name; its hash as answers give it."""
    shutil.copytree(DEMO_BUNDLE, folder)
    manifest = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps({**manifest, "name": name}))
    return f"sha256:{open_bundle(folder).hash}"


def turn(link: Path, target: Path) -> None:
    """Point a link somewhere else, in one step."""
    fresh = link.with_name("fresh")
    fresh.symlink_to(target)
    fresh.replace(link)


@contextmanager
def server(bundle: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    command = [sys.executable, "-m", "service", "--port", "0", "--bundle", str(bundle)]
    command += ["--decode-workers", "1", "--log-format", "json", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://[\d.:]+", process.stdout.readline())
            assert found is not None
            with httpx.Client(base_url=found[0], timeout=None) as client:
                while client.get("/readyz").status_code != 200:
                    assert process.poll() is None
                yield process, client
        finally:
            process.kill()


def classify(client: httpx.Client, _: int = 0) -> httpx.Response:
    files = {"video": ("c", CLIP)}
    return client.post("/classify", files=files, data={"labels": ["one", "two"]})


def reloads(client: httpx.Client, result: str) -> float:
    text = client.get("/metrics").text
    found = re.search(rf'^xclip_reloads_total{{result="{result}"}} ([\d.]+)$', text, re.MULTILINE)
    assert found is not None
    return float(found[1])


@pytest.fixture
def bundles(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A link `current` to bundle a, with b beside it; the hashes of both."""
    hashes = {name: another_bundle(tmp_path / name, f"demo-{name}") for name in ("a", "b")}
    link = tmp_path / "current"
    link.symlink_to(tmp_path / "a")
    return link, hashes


def test_answers_switch_once_and_none_is_lost(bundles: tuple[Path, dict[str, str]]) -> None:
    link, hashes = bundles
    with server(link) as (process, client):
        with SteadyLoad(str(client.base_url), classify, clients=3) as load:
            load.more(20)
            turn(link, link.with_name("b"))
            process.send_signal(signal.SIGHUP)
            while not reloads(client, "swapped"):
                assert process.poll() is None
            load.more(20)
        samples = sorted(load.samples, key=lambda sample: sample.began)
        assert statuses(samples) == {200: len(samples)}
        served = [sample.body["model"]["bundle"] for sample in samples]
        assert {served[0], served[-1]} == set(hashes.values())
        switch = served.index(hashes["b"])
        settled = [s for s in samples if s.began > samples[switch].began + samples[switch].seconds]
        assert {s.body["model"]["bundle"] for s in settled} == {hashes["b"]}
        assert client.get("/readyz").json()["last_reload"] == "swapped"
        assert client.get("/model").json()["name"] == "demo-b"
        assert 'model="demo-b"' in client.get("/metrics").text
        assert 'model="demo-a"' not in client.get("/metrics").text


@pytest.mark.parametrize("damage", ["missing", "changed", "not json", "gone"])
def test_a_broken_bundle_changes_nothing(bundles: tuple[Path, dict[str, str]], damage: str) -> None:
    link, hashes = bundles
    new = link.with_name("b")
    if damage == "missing":
        (new / "score_head.onnx").unlink()
    elif damage == "changed":
        with (new / "video_encoder.onnx").open("r+b") as file:
            file.seek(1000)
            file.write(os.urandom(8))
    elif damage == "not json":
        (new / "bundle.json").write_text("{")
    else:
        shutil.rmtree(new)
    with server(link) as (process, client):
        before = classify(client).json()
        turn(link, new)
        process.send_signal(signal.SIGHUP)
        while not reloads(client, "refused"):
            assert process.poll() is None
        ready = client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["last_reload"].startswith("refused: ")
        after = classify(client).json()
        assert after["model"]["bundle"] == hashes["a"]
        assert after["predictions"] == before["predictions"]
        turn(link, link.with_name("a"))
        process.send_signal(signal.SIGHUP)
        while not reloads(client, "unchanged"):
            assert process.poll() is None


def test_the_old_bundle_serves_whole_after_its_folder_was_replaced(
    bundles: tuple[Path, dict[str, str]],
) -> None:
    link, _ = bundles
    with server(link) as (_, client):
        names = [entry["name"] for entry in client.get("/labels").json()]
        assert names
        shutil.rmtree(link.resolve())
        files = {"video": ("c", CLIP)}
        answer = client.post("/classify", files=files, data={"label_set": names[0]})
        assert answer.status_code == 200, answer.text
        assert client.get("/readyz").status_code == 200


def test_start_up_labels_are_known_before_the_first_request(
    bundles: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    link, _ = bundles
    list_file = tmp_path / "warm.txt"
    list_file.write_text("one\n\ntwo\none\n")
    with server(link, "--warm-labels", str(list_file)) as (process, client):
        assert classify(client).json()["cache"]["text_hits"] == 2
        turn(link, link.with_name("b"))
        process.send_signal(signal.SIGHUP)
        while not reloads(client, "swapped"):
            assert process.poll() is None
        assert classify(client).json()["cache"]["text_hits"] == 2


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b"ok\n" + b"word " * 200])
def test_a_bad_start_up_list_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    list_file = tmp_path / "warm.txt"
    if content is not None:
        list_file.write_bytes(content)
    else:
        os.mkfifo(list_file)  # a pipe, which a reader would wait for
    command = [sys.executable, "-m", "service", "--port", "0", "--warm-labels", str(list_file)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode != 0
    told = [line for line in ended.stderr.splitlines() if line.startswith("service: ")]
    assert len(told) == 1
    assert "warm_labels" in told[0]
    assert "Traceback" not in ended.stderr
