"""A server under strace gets every file of the corpus that reaches out, with the names they come
with: by the kernel's record it opens nothing but its own files, and calls nobody.

That bait and listener see a touch is shown in tests/service/decode/test_canary.py.
"""

from __future__ import annotations

import re
import socket
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CorpusFile
from tests.service.conftest import PATIENCE, clip_bytes
from tests.service.hostile.conftest import Serving

ROOT = Path(__file__).resolve().parents[3]
CALL = re.compile(r"^(\w+)\((.*)\) += (-?\w+)")
OPENING = ("open", "openat", "openat2", "creat")
PROCESSORS = "/sys/devices/system/cpu/online"  # read by glibc for the memory of a new thread
REACHING = ("connect", "bind", "sendmmsg")
FIRST_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')


def own_files(uploads: Path) -> tuple[str, ...]:
    """Where the service may open files while it serves: itself, its Python, its uploads."""
    folders = {ROOT, uploads, Path(sys.prefix), Path(sys.base_prefix), Path("/proc/self")}
    folders |= {Path(path) for path in sysconfig.get_paths().values()}
    return tuple(str(folder) for folder in folders)


def reached(lines: list[str], allowed: tuple[str, ...]) -> Iterator[str]:
    """The calls of one process that open or reach anything that is not its own."""
    for line in lines:
        call = CALL.match(line)
        if not call:
            continue
        name, arguments, result = call.groups()
        if name in REACHING:
            yield line
        path = FIRST_PATH.search(arguments)
        if name in OPENING and path and not result.startswith("-"):
            where = path[1]
            if where.startswith("/proc/") or where in ("/dev/null", PROCESSORS):
                continue
            if not where.startswith(allowed):
                yield line
        if "canary" in arguments or "passwd" in arguments or "pwned" in arguments:
            yield line


def test_a_server_opens_and_calls_nothing_of_what_uploads_name(
    serving: Serving, corpus: list[CorpusFile], strace: str, bait: socket.socket, tmp_path: Path
) -> None:
    reaching = [e for e in corpus if e.expect.get("must_not")]
    traces = tmp_path / "traces"
    traces.mkdir()
    before = (strace, "-ff", "-s", "300", "-o", str(traces / "t"), "-e", "trace=%file,%network")
    with serving(before, **PATIENCE) as server:
        # Everything up to here is the start: libraries, the bundle, the port, and what is made
        # when the first clips come, threads and their memory among it.
        for shade in range(4):
            assert server.classify(clip_bytes(shade=shade)).status_code == 200
        skip = {path: len(path.read_text(errors="replace")) for path in traces.iterdir()}
        for entry in reaching:
            name = entry.entry.get("upload_filename", entry.name)
            answer = server.classify(entry.path.read_bytes(), name)
            assert answer.status_code in entry.expect["http"], entry.name
            assert name[:40] not in answer.text
        allowed = own_files(server.uploads)
    served = {
        path.name: path.read_text(errors="replace")[skip.get(path, 0) :].splitlines()
        for path in traces.iterdir()
    }
    found = [
        f"{name}: {line}" for name, lines in served.items() for line in reached(lines, allowed)
    ]
    # The record is of this server: every upload it had not seen was opened anew for a worker.
    opened = [line for lines in served.values() for line in lines if "/proc/self/fd/" in line]
    assert len(opened) >= len({entry.path.read_bytes() for entry in reaching})
    assert not found, "\n".join(found)
    # From the first moment on: no library may call its makers either.
    lines = [
        line for path in traces.iterdir() for line in path.read_text(errors="replace").splitlines()
    ]
    calls = [line for line in lines if line.startswith("connect(") and "AF_INET" in line]
    assert not calls, "\n".join(calls)
    bait.setblocking(False)
    with pytest.raises(BlockingIOError):
        bait.accept()
    assert not Path("/tmp/pwned.mp4").exists()


def test_the_check_sees_what_it_looks_for(tmp_path: Path) -> None:
    allowed = own_files(tmp_path)
    bad = [
        'openat(AT_FDCWD, "/etc/hostname", O_RDONLY) = 3',
        'openat(AT_FDCWD, "/tmp/serve_canary/canary.ts", O_RDONLY) = -1 EACCES (Permission denied)',
        "connect(5, {sa_family=AF_INET, sin_port=htons(18999)}, 16) = -1 ECONNREFUSED (…)",
        'stat("/etc/passwd", {st_mode=S_IFREG|0644}) = 0',
    ]
    good = [
        f'openat(AT_FDCWD, "{tmp_path}/x", O_RDWR|O_CREAT, 0600) = 7',
        'openat(AT_FDCWD, "/proc/self/fd/7", O_RDONLY) = 8',
        'openat(AT_FDCWD, "/usr/lib/gconv/ISO_6937.so", O_RDONLY) = -1 EPERM (…)',
    ]
    assert len(set(reached(bad, allowed))) == len(bad)
    assert list(reached(good, allowed)) == []
