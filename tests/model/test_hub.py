"""Hub ids, against a server that speaks the part of the hub's protocol that a download needs."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from model.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from model.network.xclip import XClip
from tests.model.conftest import huggingface_folder, same_weights

COMMIT = "0123456789" * 4
ROOT = Path(__file__).resolve().parents[2]


class Hub(BaseHTTPRequestHandler):
    """Answers for one repository, `owner/small`, whose files lie in a folder."""

    def __init__(self, folder: Path, asked: list[str], *args: object) -> None:
        self.folder, self.asked = folder, asked
        super().__init__(*args)  # type: ignore[arg-type]

    def log_message(self, *args: object) -> None:
        """Stay silent."""

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        path = self.path.split("?")[0]
        if "/resolve/" in path and path.startswith("/owner/small/"):
            self.asked.append(path.rsplit("/", 1)[1])
            self.answer((self.folder / path.rsplit("/", 1)[1]).read_bytes(), body)
        elif path.startswith("/api/models/owner/small"):
            names = [{"rfilename": p.name, "size": 1} for p in sorted(self.folder.iterdir())]
            info = {"id": "owner/small", "sha": COMMIT, "siblings": names, "tags": []}
            tree = [{"type": "file", "path": n["rfilename"], "oid": "0", "size": 1} for n in names]
            self.answer(json.dumps(tree if "/tree/" in path else info).encode(), body)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()

    def answer(self, content: bytes, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def asked() -> list[str]:
    """Names of the files that were fetched."""
    return []


@pytest.fixture
def hub(small_net: XClip, tmp_path: Path, asked: list[str]) -> Iterator[str]:
    """The address of a hub that has the small network."""
    folder = huggingface_folder(small_net, tmp_path / "repository", size=48)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, folder, asked))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def converted(hub: str, folder: Path) -> list[tuple[int, str]]:
    """Exit code and error of three conversions: one that works, an unknown id, no connection.

    They run in a process of their own: the hub's client reads its settings at import.
    """
    code = """
import contextlib, io, json, sys
from huggingface_hub import constants
from model import convert
for source, output in (("owner/small", "out"), ("owner/unknown", "no"), ("owner/small@v2", "no")):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        with contextlib.redirect_stdout(io.StringIO()):
            code = convert.main([source, "--output", sys.argv[1] + "/" + output])
    print(json.dumps([code, said.getvalue()]))
    if source == "owner/unknown":
        constants.HF_HUB_OFFLINE = True
"""
    own = {"HF_ENDPOINT": hub, "HF_HOME": str(folder / "cache"), "NO_PROXY": "127.0.0.1"}
    own["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    command = [sys.executable, "-c", code, str(folder)]
    run = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **own}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return [tuple(json.loads(line)) for line in run.stdout.splitlines()]


def test_ids_are_downloaded_and_failures_are_one_line(
    hub: str, asked: list[str], small_net: XClip, tmp_path: Path
) -> None:
    (tmp_path / "repository" / "pytorch_model.bin").write_bytes(b"not wanted")
    good, unknown, offline = converted(hub, tmp_path)
    assert good == (0, "")
    assert same_weights(load_checkpoint(tmp_path / "out"), small_net)
    assert "model.safetensors" in asked
    assert "pytorch_model.bin" not in asked
    assert json.loads((tmp_path / "out" / "config.json").read_text())["source"] == "owner/small"
    for source, (code, said) in (("owner/unknown", unknown), ("owner/small@v2", offline)):
        assert code == 1
        assert said.startswith(f"model.convert: {source} is no file or folder here")
        assert said.count("\n") == 1
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    "source", ["nowhere", "./a/b", "/no/such/folder", "a/b/c", "a/b@", "a b/c"]
)
def test_what_is_no_hub_id_is_never_asked_for(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    with pytest.raises(CheckpointError, match="is no checkpoint: give"):
        load_checkpoint(source)


def test_a_folder_of_that_name_comes_first(
    small_net: XClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(small_net, "owner/small")
    assert same_weights(load_checkpoint("owner/small"), small_net)
