"""Clips and tables at `gs://`: a local server that speaks Google's protocol."""

from __future__ import annotations

import io
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from tests.conftest import ROOT, missing
from tests.service.conftest import clip_bytes
from tests.xclip_serve.sixty_clips import ENVIRONMENT, LABELS, batch, rows

PYTHON = ROOT / ".venv-s3" / "bin" / "python"
SERVE = """
import threading
from gcp_storage_emulator.server import create_server
server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="store")
server.start()
print(server._api._httpd.server_port, flush=True)
threading.Event().wait()
"""
KIND = {"Content-Type": "video/mp4"}  # the client ends the process where it is null


@pytest.fixture
def store() -> Iterator[httpx.Client]:
    if not PYTHON.with_name("gcp-storage-emulator").exists():
        missing("gcp-storage-emulator (make .venv-s3/.installed)")
    command = [str(PYTHON), "-c", SERVE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = f"http://127.0.0.1:{int(server.stdout.readline())}"
        with (
            pytest.MonkeyPatch.context() as environment,
            httpx.Client(base_url=address, timeout=None) as http,
        ):
            environment.setitem(ENVIRONMENT, "STORAGE_EMULATOR_HOST", address)
            yield http
        server.terminate()


def test_in_and_out_of_a_bucket(store: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    for i in range(3):
        clip = clip_bytes(i, frames=8) if i else b"no video"
        (tmp_path / "clips" / f"{i}.mp4").write_bytes(clip)
        place = {"uploadType": "media", "name": f"clips/deeper/{i}.mp4"}
        store.post(
            "/upload/storage/v1/b/store/o", params=place, content=clip, headers=KIND
        ).raise_for_status()
    assert batch(tmp_path, "clips", "--output", "here.parquet")[0] == 3
    here = rows(tmp_path / "here.parquet")
    command = ("gs://store/clips", "--output", "gs://store/table")
    status, said = batch(tmp_path, *command)
    assert status == 3, said
    listed = store.get("/storage/v1/b/store/o", params={"prefix": "table/"}).json()["items"]
    parts = [item["name"] for item in listed if item["name"].endswith(".parquet")]
    there = [  # in one part, or in more where it took longer than ten seconds
        row
        for part in parts
        for row in pq.read_table(io.BytesIO(store.get(f"/store/{part}").content)).to_pylist()
    ]
    assert len(there) == len(here)
    read = {str(row.pop("path")): row for row in there}
    assert read == {
        path.replace("clips/", "gs://store/clips/deeper/"): {
            k: v for k, v in row.items() if k != "path"
        }
        for path, row in here.items()
    }
    status, said = batch(tmp_path, *command)
    assert status == 3, said
    assert "nothing was left to do" in said
