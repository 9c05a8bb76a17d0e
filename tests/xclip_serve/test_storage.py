"""Clips and tables in an object store: a local server that speaks S3, and no library for files."""

from __future__ import annotations

import io
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from tests.conftest import ROOT, missing
from tests.service.conftest import running, until
from tests.test_import_rules import modules_after
from tests.xclip_serve.sixty_clips import BROKEN, COUNT, ENVIRONMENT, batch, make_clips, rows
from xclip_serve import parts
from xclip_serve.folders import DiskFolder
from xclip_serve.rows import Layout

SERVER = ROOT / ".venv-s3" / "bin" / "moto_server"
LISTENS = re.compile(r"http://127\.0\.0\.1:\d+")
BUCKET = "s3://store"
# Parts are written every ten seconds; a test cannot wait for them.
HURRIED = (
    "import sys; from xclip_serve import parts; parts.PART_EVERY_S = 0.0\n"
    "from xclip_serve.__main__ import main; sys.exit(main(sys.argv[1:]))"
)


class Store:
    """A bucket of the server, filled and read over plain HTTP."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._http = httpx.Client(base_url=address, timeout=None)
        self._http.put("/store").raise_for_status()

    def put(self, key: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        self._http.put(f"/store/{key}", content=data, headers=headers).raise_for_status()

    @contextmanager
    def denying(self, key: str) -> Iterator[None]:
        """Nobody may read this object."""
        denied = {"Effect": "Deny", "Principal": "*", "Action": "s3:*"}
        policy = {
            "Version": "2012-10-17",
            "Statement": [{**denied, "Resource": f"arn:aws:s3:::store/{key}"}],
        }
        self._http.put("/store?policy", json=policy).raise_for_status()
        yield
        self._http.delete("/store?policy").raise_for_status()

    def get(self, key: str) -> bytes:
        return self._http.get(f"/store/{key}").raise_for_status().content

    def keys(self, prefix: str) -> list[str]:
        listed = self._http.get("/store", params={"list-type": "2", "prefix": prefix})
        return re.findall(r"<Key>([^<]*)</Key>", listed.text)

    def parts(self, table: str) -> dict[str, bytes]:
        keys = [key for key in self.keys(f"{table}/") if key.endswith(".parquet")]
        return {key: self.get(key) for key in keys}

    def rows(self, table: str) -> dict[str, dict[str, Any]]:
        """The rows by path; none twice."""
        read = [
            row
            for part in self.parts(table).values()
            for row in pq.read_table(io.BytesIO(part)).to_pylist()
        ]
        by_path = {str(row["path"]): row for row in read}
        assert len(by_path) == len(read)
        return by_path

    def close(self) -> None:
        self._http.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, dict[str, Any]]:
    """The table of the clips on the disk."""
    assert batch(folder, "clips", "--output", "whole.parquet")[0] == 3
    return rows(folder / "whole.parquet")


@pytest.fixture(scope="module")
def store(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    if not SERVER.exists():
        missing("moto (make .venv-s3/.installed)")
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("wb") as said, subprocess.Popen([SERVER, "-p", "0"], stderr=said) as server:
        try:
            until(lambda: LISTENS.search(log.read_text()) is not None or server.poll() is not None)
            listens = LISTENS.search(log.read_text())
            assert listens is not None
            with serving(Store(listens[0]), folder) as made:
                yield made
        finally:
            server.terminate()


@contextmanager
def serving(made: Store, folder: Path) -> Iterator[Store]:
    """A store with the clips, which programs find in their environment."""
    for clip in sorted((folder / "clips").rglob("*.*")):
        made.put(str(clip.relative_to(folder)), clip.read_bytes())
    made.put("clips/.hidden.mp4", b"no clip")
    made.put("strange/part.parquet", b"no table")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (
            ("AWS_ENDPOINT_URL", made.address),
            ("AWS_ACCESS_KEY_ID", "any"),
            ("AWS_SECRET_ACCESS_KEY", "any"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
        ):
            environment.setitem(ENVIRONMENT, name, value)
        yield made
    made.close()


def there(whole: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The same rows of clips in the bucket."""
    return {f"{BUCKET}/{p}": {**row, "path": f"{BUCKET}/{p}"} for p, row in whole.items()}


def test_in_and_out_of_a_bucket_killed_and_resumed(
    folder: Path, store: Store, whole: dict[str, Any]
) -> None:
    arguments = [f"{BUCKET}/clips", "--labels", "labels.txt", "--output", f"{BUCKET}/table"]
    command = [sys.executable, "-c", HURRIED, "batch", *arguments]
    with (
        running(rate_limit="20/minute") as server,  # holds the run up half way
        subprocess.Popen(
            [*command, "--jobs", "2", "--server", server.base_url],
            cwd=folder, env=ENVIRONMENT, stderr=subprocess.DEVNULL,
        ) as run,
    ):  # fmt: skip
        until(lambda: len(store.parts("table")) >= 5 or run.poll() is not None)
        run.send_signal(signal.SIGKILL)
    before = store.parts("table")
    assert 5 <= len(store.rows("table")) < COUNT
    status, said = batch(folder, f"{BUCKET}/clips", "--output", f"{BUCKET}/table")
    assert status == 3, said
    assert store.rows("table") == there(whole)
    assert before.items() <= store.parts("table").items()
    assert len(store.parts("table")) > len(before)
    status, said = batch(folder, f"{BUCKET}/clips", "--output", f"{BUCKET}/table/")
    assert status == 3, said
    assert "nothing was left to do" in said
    status, said = batch(
        folder, f"{BUCKET}/clips", "--label", "more", "--output", f"{BUCKET}/table"
    )
    assert status == 2
    assert "the question (labels)" in said


def test_lists_and_patterns_name_clips_in_a_bucket(
    folder: Path, store: Store, whole: dict[str, Any], tmp_path: Path
) -> None:
    store.put("patterns/deeper/none.mp4", b"")
    store.put("patterns/01.mp4", (folder / "clips" / "01.mp4").read_bytes())
    store.put("clips/list.txt", b"01.mp4\ndeeper/07.mp4\nnone.mp4\n")
    store.put("clips/list.csv", b"id,path\n1,02.mp4\n")
    store.put("other/empty.mp4", b"")
    (tmp_path / "list.txt").write_text(f"{BUCKET}/clips/03.mp4\n")
    status, said = batch(
        folder,
        *(f"{BUCKET}/clips/list.txt", f"{BUCKET}/clips/list.csv", tmp_path / "list.txt"),
        *(f"{BUCKET}/clips/1*.mp4", f"{BUCKET}/other/empty.mp4", "clips/04.mp4"),
        f"{BUCKET}/patterns/*",
        *("--output", tmp_path / "t.parquet"),
    )
    assert status == 3, said
    read = rows(tmp_path / "t.parquet")
    failed = {path: row["code"] for path, row in read.items() if row["code"]}
    assert failed == {
        f"{BUCKET}/clips/none.mp4": "cannot_open",
        f"{BUCKET}/other/empty.mp4": "not_a_video",
    }
    assert len(read) == 3 + 1 + 1 + 9 + 1 + 1 + 1  # 10 to 19 without 14, which lies deeper
    known = {**there(whole), **whole}
    known[f"{BUCKET}/patterns/01.mp4"] = {
        **known["clips/01.mp4"],
        "path": f"{BUCKET}/patterns/01.mp4",
    }
    assert all(row == known[path] for path, row in read.items() if path not in failed)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["s3://store/none", "--output", "x.csv"], "there is no clip at s3://store/none"),
        (["s3://none/clips", "--output", "x.csv"], "there is no clip at s3://none/clips"),
        (["clips", "--output", "s3://none/table"], "s3://none/table"),
        (["clips", "--output", "s3://store/strange"], "strange/part.parquet is no Parquet"),
        (["clips", "--output", "odd://store/table"], "Protocol not known: odd"),
    ],
)
def test_mistakes_are_told_in_a_line(
    folder: Path, store: Store, arguments: list[str], told: str
) -> None:
    status, said = batch(folder, *arguments)
    assert status == 2
    assert told in said
    assert said.count("\n") == 1


def test_a_store_that_goes_away_ends_the_run_and_is_no_row(
    folder: Path, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text(f"{folder}/clips/01.mp4\n{BUCKET}/clips/{BROKEN}\n")
    with socket.socket() as held:  # and nobody listens
        held.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{held.getsockname()[1]}"
        gone = {**ENVIRONMENT, "AWS_ENDPOINT_URL": nobody, "AWS_MAX_ATTEMPTS": "1"}
        run = subprocess.run(
            [sys.executable, "-m", "xclip_serve", "batch", str(tmp_path / "list.txt"),
             "--labels", str(folder / "labels.txt"), "--output", str(tmp_path / "t.jsonl")],
            cwd=folder, env=gone, capture_output=True, text=True,
        )  # fmt: skip
    assert run.returncode == 2
    assert "cannot be reached" in run.stderr
    assert f"{BUCKET}/clips/{BROKEN}" not in (tmp_path / "t.jsonl").read_text()


def test_objects_that_may_not_be_read_are_rows(
    folder: Path, store: Store, whole: dict[str, Any], tmp_path: Path
) -> None:
    clip = (folder / "clips" / "01.mp4").read_bytes()
    store.put("kept/open.mp4", clip)
    store.put("kept/denied.mp4", clip)
    store.put("kept/archived.mp4", clip, {"x-amz-storage-class": "GLACIER"})
    with store.denying("kept/denied.mp4"), running() as server:
        for i, at in enumerate([(), ("--server", server.base_url)]):
            table = tmp_path / f"{i}.jsonl"
            status, said = batch(folder, f"{BUCKET}/kept", *at, "--output", table)
            assert status == 3, said
            read = rows(table)
            assert {path.rpartition("/")[2]: row["code"] for path, row in read.items()} == {
                "open.mp4": None,
                "denied.mp4": "cannot_open",
                "archived.mp4": "cannot_open",
            }
            assert read[f"{BUCKET}/kept/open.mp4"]["label"] == whole["clips/01.mp4"]["label"]
            assert "the store refuses s3://store/kept/denied.mp4" in str(
                read[f"{BUCKET}/kept/denied.mp4"]["error"]
            )


def test_files_need_no_library_of_stores(folder: Path) -> None:
    used = "import xclip_serve.verbs.batch, xclip_serve.classifier, xclip_serve.client"
    assert not modules_after(used) & {"fsspec", "s3fs", "ray", "pyarrow"}
    once = "from xclip_serve.clips import find_clips; from xclip_serve.folders import open_folder"
    asked = f"list(find_clips([{str(folder / 'clips')!r}])); open_folder({str(folder)!r}).names()"
    assert "fsspec" not in modules_after(f"{once}\n{asked}")


def test_a_part_that_a_signal_finds_written_is_not_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_EVERY_S", 0.0)
    folder = DiskFolder(tmp_path)
    table = parts.PartsTable(folder, Layout().columns)
    write = folder.write

    def interrupted(name: str, data: bytes) -> None:
        write(name, data)
        raise KeyboardInterrupt

    monkeypatch.setattr(folder, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        table.add({"path": "a.mp4", "code": None})
    monkeypatch.setattr(folder, "write", write)
    table.close(complete=False)
    assert len(folder.names()) == 1
