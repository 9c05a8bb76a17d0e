"""Hostile files that name other files and addresses: nothing outside is touched, by the kernel's
own record, and the means of looking are shown to see it when it happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.inputs import InputSpec, VideoError
from service.decode import DecodePool, PoolOptions
from service.decode.process import WORKER
from tests.conftest import CorpusFile
from tests.service.decode.conftest import PATIENCE

# The bait that `bait` lays out, and a file of the corpus looks for.
CANARIES = Path("/tmp/serve_canary")
WATCHED = "trace=%file,%network,%process,bpf,io_uring_setup"
# After this the worker is locked and files come in.
READY = re.compile(r'^sendto\(0, "\{\\"kind\\":\\"ready')
READY_LINE = 'sendto(0, "{\\"kind\\":\\"ready\\"'
DENIED = re.compile(r"= -1 (EPERM|EACCES) ")
# Calls that name no file and open nothing: the descriptors that the parent sent, and the answers.
HARMLESS = re.compile(
    r"^(newfstatat\(\d+, \"\", |fstat\(|recvmsg\(0|sendto\(0|exit(?:_group)?\(|\+\+\+|---)"
)
# Threads of its own; the C library asks for clone3 first, and does without.
THREAD = re.compile(r"^clone\(.*\bCLONE_THREAD\b.*\) = (\d+)$")
NO_CLONE3 = re.compile(r"^clone3\(.*\) = -1 ENOSYS ")
# A character set table of the C library, asked for by the MPEG-TS demuxer; it goes on without.
CHARACTER_SETS = re.compile(r'^openat\(AT_FDCWD, "[^"]*/gconv/[A-Za-z0-9_.-]+"')

SPEC = InputSpec.official(8, 112)


@pytest.fixture
def canaries(bait: socket.socket, tmp_path: Path) -> Iterator[list[bytes]]:
    """Bait beside the uploads too, and somebody who answers calls; yields what callers said."""
    for folder in (tmp_path, tmp_path / "serve_canary"):
        shutil.copytree(CANARIES, folder, dirs_exist_ok=True)
    calls: list[bytes] = []

    def listen() -> None:
        while True:
            try:
                connection, _ = bait.accept()
            except OSError:
                return
            calls.append(connection.recv(200))
            connection.close()

    thread = threading.Thread(target=listen)
    thread.start()
    yield calls
    bait.shutdown(socket.SHUT_RDWR)
    thread.join()


def traced(strace: str, folder: Path) -> tuple[str, ...]:
    return (strace, "-ff", "-s", "200", "-o", str(folder / "trace"), "-e", WATCHED)


def outside(lines: list[str]) -> Iterator[str]:
    """What a worker did or tried beyond its own descriptors, after it was locked."""
    locked = False
    for line in lines:
        in_vain = CHARACTER_SETS.match(line) and DENIED.search(line)
        harmless = HARMLESS.match(line) or THREAD.match(line) or NO_CLONE3.match(line)
        if locked and not harmless and not in_vain:
            yield line
        locked = locked or bool(READY.match(line))


def sweep(strace: str, folder: Path, entries: list[CorpusFile]) -> tuple[list[str], int]:
    """Decode all of them under strace; returns what workers did outside, and how many spoke."""

    async def main() -> None:
        pool = DecodePool(
            2,
            SPEC,
            options=PoolOptions(**PATIENCE),
            command=(*traced(strace, folder), *WORKER),
        )
        await pool.start()

        async def one(entry: CorpusFile) -> None:
            # Under the client's name and beside the bait, where a path would be dangerous.
            upload = folder / Path(entry.entry.get("upload_filename", entry.name)).name[-200:]
            shutil.copy(entry.path, upload)
            with upload.open("rb") as file, contextlib.suppress(VideoError):
                await pool.decode(file.fileno())

        await asyncio.gather(*map(one, entries))
        assert not set(pool.stats.ended) - {"memory", "jobs"}
        await pool.stop()

    asyncio.run(main())
    traces = {
        path.suffix[1:]: path.read_text(errors="replace").splitlines()
        for path in folder.glob("trace.*")
    }
    ready = [lines for lines in traces.values() if any(map(READY.match, lines))]
    threads = [traces[found[1]] for lines in ready for found in map(THREAD.match, lines) if found]
    locked = ready + [[READY_LINE, *lines] for lines in threads]
    return [line for lines in locked for line in outside(lines)], len(ready)


def test_files_that_reach_out_reach_nothing(
    strace: str, canaries: list[bytes], corpus: list[CorpusFile], tmp_path: Path
) -> None:
    reaching = [e for e in corpus if e.expect.get("must_not")]
    assert len(reaching) > 30
    touched, workers = sweep(strace, tmp_path, reaching)
    assert touched == []
    assert canaries == []
    assert workers == 3


@pytest.mark.long
def test_no_file_of_the_corpus_reaches_anything(
    strace: str, canaries: list[bytes], corpus: list[CorpusFile], tmp_path: Path
) -> None:
    touched, workers = sweep(strace, tmp_path, corpus)
    assert touched == []
    assert canaries == []
    assert workers >= 3


CARELESS = """
import av, sys
for path in sys.argv[1:]:
    try:
        with open(path, "rb") as file, av.open(file) as container:
            list(container.decode(video=0))
    except (av.FFmpegError, IndexError, UnicodeDecodeError):
        pass
"""


def test_the_same_files_reach_out_when_opened_carelessly(
    strace: str, canaries: list[bytes], shared_dir: Path, tmp_path: Path
) -> None:
    """The positive control: bait, listener and trace all see what they are there for."""
    for name in ("h_ffconcat_relative.mp4", "h_hls_http.m3u8"):
        shutil.copy(shared_dir / "corpus" / name, tmp_path)
    paths = [str(tmp_path / "h_ffconcat_relative.mp4"), str(tmp_path / "h_hls_http.m3u8")]
    subprocess.run(
        [*traced(strace, tmp_path), sys.executable, "-c", CARELESS, *paths],
        check=True,
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    lines = [
        line
        for path in tmp_path.glob("trace.*")
        for line in path.read_text(errors="replace").splitlines()
    ]
    assert any("openat" in line and "canary.ts" in line and "= -1" not in line for line in lines)
    assert any(line.startswith("connect(") and "18999" in line for line in lines)
    assert canaries
    assert list(outside([READY_LINE, *lines]))
