"""Drawing that is killed leaves no workers behind."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil


def _until(found: Callable[[], bool]) -> None:
    while not found():
        time.sleep(0.2)


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "model.data.shapes", str(tmp_path), "--clips", "100000"]
    process = subprocess.Popen([*command, "--workers", "2"], stdout=subprocess.DEVNULL)
    try:
        _until(lambda: any(tmp_path.rglob("*.mp4")))
        workers = psutil.Process(process.pid).children()
        assert len(workers) == 2
    finally:
        process.kill()
        process.wait()
    _until(lambda: all(_has_ended(worker) for worker in workers))


def _has_ended(worker: psutil.Process) -> bool:
    """Whether it runs no more; whoever inherited it may not have asked for its end yet."""
    try:
        return worker.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
