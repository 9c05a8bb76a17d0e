"""Take away from a running server what it needs, one thing at a time, and watch it recover.

Each test says in the log what happened and how long it took: `pytest -m faults --log-cli-level
INFO`. The table in docs/reliability.md is made of these lines.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from service.settings import DEMO_BUNDLE
from tests.conftest import ROOT, missing
from tests.service.hostile.conftest import ServerProcess, Serving
from tests.service.redis.conftest import RedisServer

log = logging.getLogger(__name__)
pytestmark = pytest.mark.faults

SLOW = "h_cpu_vp9_4k_x3000.mp4"
MIB = 1 << 20
fresh = itertools.count()


@pytest.fixture
def good(videos: dict[str, Path]) -> bytes:
    return videos["arm_wrestling"].read_bytes()


@pytest.fixture
def slow(shared_dir: Path) -> bytes:
    """A clip that keeps a worker busy for a second or more, and large."""
    return (shared_dir / "corpus" / SLOW).read_bytes()


def ask(server: ServerProcess, video: bytes, **fields: Any) -> httpx.Response:
    """An answer that is computed, not remembered: each has another end."""
    return server.classify(video, end=f"{100000 + next(fresh)}", **fields)


def until_served(server: ServerProcess, video: bytes) -> float:
    """Seconds until a good clip is answered as it should be."""
    began = time.monotonic()
    while True:
        with contextlib.suppress(httpx.TransportError):
            if ask(server, video).status_code == 200:
                return time.monotonic() - began
        time.sleep(0.02)


def until(condition: Callable[[], object]) -> float:
    began = time.monotonic()
    while not condition():
        time.sleep(0.01)
    return time.monotonic() - began


class Asking(threading.Thread):
    """A request that is on its way; `answer` is there after join."""

    def __init__(self, server: ServerProcess, video: bytes) -> None:
        super().__init__()
        self._server, self._video = server, video
        self._answer: httpx.Response | None = None
        self.start()

    def run(self) -> None:
        self._answer = ask(self._server, self._video)

    @property
    def answer(self) -> httpx.Response:
        assert self._answer is not None
        return self._answer


def at_work(server: ServerProcess, video: bytes) -> tuple[Asking, psutil.Process]:
    """Send this clip until a worker is seen that decodes it; return the request and the worker.

    The worker can be done at any moment after it was seen.
    """
    while True:
        before = {worker: sum(worker.cpu_times()[:2]) for worker in server.workers()}
        request = Asking(server, video)
        while request.is_alive():
            for worker, used in before.items():
                if sum(worker.cpu_times()[:2]) - used > 0.15:
                    return request, worker
            time.sleep(0.01)
        assert request.answer.status_code == 200, request.answer.text


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_worker_is_killed_at_work(
    serving: Serving, good: bytes, slow: bytes, number: signal.Signals
) -> None:
    with serving() as server:
        before = set(server.workers())
        request, victim = at_work(server, slow)
        victim.send_signal(number)
        request.join()
        after_s = until_served(server, good)
        replaced_s = until(lambda: len(set(server.workers()) - {victim}) == len(before))
        assert request.answer.status_code in (200, 422)
        if request.answer.status_code == 422:
            assert request.answer.json()["code"] == "decode_crashed"
        log.info(
            "worker gets %s at work | its request %s | next clip served after %.2f s, "
            "worker replaced after %.2f s",
            number.name, request.answer.status_code, after_s, replaced_s,
        )  # fmt: skip


def test_every_worker_is_killed_idle(serving: Serving, good: bytes) -> None:
    with serving() as server:
        old = set(server.workers())
        for worker in old:
            worker.kill()
        after_s = until_served(server, good)
        until(lambda: len(set(server.workers()) - old) == len(old))
        assert server.client.get("/readyz").status_code == 200
        log.info(
            "all workers killed idle | nobody refused | next clip served after %.2f s", after_s
        )


def test_a_worker_hangs(serving: Serving, good: bytes, slow: bytes) -> None:
    """Stopped by a signal, it can do nothing: only the wall clock notices."""
    with serving(decode_timeout_s=5) as server:
        while True:
            request, victim = at_work(server, slow)
            victim.suspend()
            began = time.monotonic()
            during = ask(server, good).status_code
            request.join()
            ended_s = time.monotonic() - began
            assert during == 200
            if request.answer.status_code != 200:
                break
            victim.resume()  # it was done just before it was stopped
        assert request.answer.status_code == 422
        assert request.answer.json()["code"] == "decode_timeout"
        until(lambda: not victim.is_running() or victim.status() == psutil.STATUS_ZOMBIE)
        log.info(
            "a worker hangs (limit 5 s) | its request 422 after %.2f s | others served", ended_s
        )


@dataclass(frozen=True)
class MemoryGroup:
    """A control group for memory."""

    folder: Path

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        """Have what is started meanwhile, and all of its memory, belong to the group."""
        self._move(self.folder, os.getpid())
        try:
            yield
        finally:
            self._move(self.folder.parent, os.getpid())

    def allow(self, more: int) -> None:
        """Set the limit to what is used now and so many bytes more."""
        used = int((self.folder / "memory.usage_in_bytes").read_text())
        (self.folder / "memory.limit_in_bytes").write_text(str(used + more))

    def remove(self) -> None:
        for pid in (self.folder / "cgroup.procs").read_text().split():
            self._move(self.folder.parent, int(pid))
        self.folder.rmdir()

    @staticmethod
    def _move(group: Path, pid: int) -> None:
        (group / "cgroup.procs").write_text(str(pid))


@pytest.fixture
def memory_group() -> Iterator[MemoryGroup]:
    line = next(
        (row for row in Path("/proc/self/cgroup").read_text().splitlines() if ":memory:" in row),
        None,
    )
    if line is None:
        pytest.skip("no memory controller of control groups, version 1, here")
    group = Path("/sys/fs/cgroup/memory") / line.split(":")[2].lstrip("/") / f"faults{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    made = MemoryGroup(group)
    yield made
    made.remove()


def test_the_kernel_runs_out_of_memory(
    memory_group: MemoryGroup, serving: Serving, good: bytes, slow: bytes
) -> None:
    """It takes a worker, which asked to be the first, never the service.

    The group has room for two workers that are started anew (30 MiB each), not for the slow clip.
    """
    with contextlib.ExitStack() as stack:
        with memory_group.around():
            server = stack.enter_context(serving())
        root = server.root
        memory_group.allow(75 * MIB)
        answer = ask(server, slow)
        after_s = until_served(server, good)
        kernel = server.client.get("/metrics").text
        assert server.root == root
        assert answer.status_code == 422, answer.text
        assert answer.json()["code"] == "decode_crashed"
        assert 'xclip_decode_workers_ended_total{reason="crash"}' in kernel
        log.info("kernel out of memory | its request 422 | next clip served after %.2f s", after_s)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one mebibyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_the_disk_is_full(serving: Serving, good: bytes, tiny_disk: Path) -> None:
    with serving(upload_dir=tiny_disk) as server:
        filler = tiny_disk / "filler"
        filler.write_bytes(bytes(900 * 1024))
        big = ask(server, good + bytes(2 * MIB))
        during = server.client.get("/readyz").status_code
        filler.unlink()
        after_s = until_served(server, good)
        assert big.status_code == 503
        assert int(big.headers["Retry-After"]) > 0
        assert "/" not in big.json()["detail"]
        assert list(tiny_disk.iterdir()) == []
        log.info(
            "disk full | 503 with Retry-After, readyz %s | served %.2f s after room was made",
            during, after_s,
        )  # fmt: skip


def test_the_upload_folder_is_gone(serving: Serving, good: bytes) -> None:
    with serving() as server:
        server.uploads.rmdir()
        answer = ask(server, good)
        by_label = server.client.get("/model").status_code
        until(lambda: server.client.get("/readyz").status_code == 503)
        assert "uploads cannot be stored" in server.client.get("/readyz").json()["detail"]
        server.uploads.mkdir()
        after_s = until_served(server, good)
        until(lambda: server.client.get("/readyz").status_code == 200)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert by_label == 200
        log.info("upload folder removed | 503 with Retry-After | served %.2f s after", after_s)


def test_no_descriptor_is_left(serving: Serving, good: bytes) -> None:
    with serving() as server:
        pid = server.root.pid
        old = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        held = server.root.num_fds()
        # The connection is open already; there is none for the upload, nor for a new connection.
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (held - 8, old[1]))
        answer = ask(server, good)
        resource.prlimit(pid, resource.RLIMIT_NOFILE, old)
        after_s = until_served(server, good)
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert len(server.workers()) == 3
        log.info("too many open files | 503 | served %.2f s after", after_s)


def test_the_bundle_is_damaged_while_it_is_served(
    serving: Serving, good: bytes, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(DEMO_BUNDLE, bundle)
    with serving(bundle=bundle) as server:
        before = ask(server, good).json()["predictions"]
        for file in bundle.rglob("*"):
            if file.is_file():
                with file.open("r+b") as handle:
                    handle.truncate(100)
        after = ask(server, good)
        assert after.status_code == 200
        assert after.json()["predictions"] == before
        assert server.client.get("/readyz").status_code == 200
        server.root.send_signal(signal.SIGHUP)
        until(lambda: server.client.get("/readyz").json()["last_reload"] not in ("none", "running"))
        told = server.client.get("/readyz").json()["last_reload"]
        assert told.startswith("refused"), told
        assert ask(server, good).json()["predictions"] == before
        log.info("bundle files cut to 100 bytes | answers unchanged, a reload is refused | at once")
    again = subprocess.run(
        [sys.executable, "-m", "service", "--bundle", str(bundle), "--port", "0"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert again.returncode == 2
    assert len(again.stderr.splitlines()) == 1
    assert str(bundle) in again.stderr
    log.info("a restart on the damaged bundle | it ends with: %s", again.stderr.strip())


def test_redis_is_gone(serving: Serving, good: bytes, redis_server: RedisServer) -> None:
    """Label vectors and rates are shared through it; without it each server has its own."""
    # With no memory of labels of its own the server asks each time.
    settings = {"redis_url": redis_server.url, "rate_limit": "1000/minute", "label_cache_bytes": 1}
    with serving(**settings) as server:
        until(lambda: server.client.get("/readyz").json()["shared_cache"] == "up")
        before = ask(server, good).json()["predictions"]
        redis_server.kill()
        began = time.monotonic()
        answers = [ask(server, good) for _ in range(5)]
        without_s = time.monotonic() - began
        assert [a.status_code for a in answers] == [200] * 5
        assert all(a.json()["predictions"] == before for a in answers)
        ready = server.client.get("/readyz")
        assert ready.status_code == 200
        assert ready.json()["shared_cache"].startswith("down")
        redis_server.start()
        back_s = until(lambda: server.client.get("/readyz").json()["shared_cache"] == "up")
        assert ask(server, good).status_code == 200
        log.info(
            "Redis killed | five answers, right, in %.2f s | in use again %.2f s after its return",
            without_s, back_s,
        )  # fmt: skip


def test_the_wall_clock_jumps(serving: Serving, good: bytes, tmp_path: Path) -> None:
    """A day forward and two days back: nothing is measured by it that matters."""
    library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)
    if library is None:
        missing("libfaketime (Debian package libfaketime)")
    clock = tmp_path / "clock"
    clock.write_text("+0")
    before = (
        "env",
        f"LD_PRELOAD={library}",
        f"FAKETIME_TIMESTAMP_FILE={clock}",
        "FAKETIME_DONT_FAKE_MONOTONIC=1",
        "FAKETIME_NO_CACHE=1",
    )
    with serving(before) as server:
        times = []
        for jump in ("+0", "+1d", "-2d", "+0"):
            clock.write_text(jump)
            began = time.monotonic()
            answer = ask(server, good)
            times.append(time.monotonic() - began)
            assert answer.status_code == 200
            assert 0 <= answer.json()["timing_ms"]["total"] <= 1e3 * times[-1]
            assert server.client.get("/readyz").status_code == 200
        log.info(
            "wall clock +1 day, -2 days | answers and timings right | slowest %.2f s", max(times)
        )


def test_the_service_itself_is_killed(serving: Serving) -> None:
    """Its workers go with it: nothing is left that holds memory or a port."""
    with serving() as server:
        workers = server.workers()
        server.process.kill()
        assert server.process.wait() == -signal.SIGKILL
        gone_s = until(
            lambda: all(not w.is_running() or w.status() == psutil.STATUS_ZOMBIE for w in workers)
        )
        assert len(workers) == 3
        log.info("the service is killed | no worker is left after %.2f s", gone_s)
