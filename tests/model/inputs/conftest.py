"""Fixtures of the input tests: the corpus, decoded once in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("corpus_worker.py")
ROOT = Path(__file__).resolve().parents[3]
WORKERS = 2
# The manifest's own bounds are for a whole request on one core; this only ends what hangs.
HUNG_AFTER_S = 60


class CorpusWorker:
    """A process that decodes the files it is told, started anew when one has killed it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def examine(self, path: Path) -> dict[str, Any]:
        process = self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        killer = threading.Timer(HUNG_AFTER_S, process.kill)
        killer.start()
        try:
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            line = process.stdout.readline()
        finally:
            killer.cancel()
        if not line:
            self.close()
            return {"file": path.name, "outcome": "died", "returncode": process.returncode}
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()
            self._process = None

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
        return self._process


def examine_all(paths: Sequence[Path]) -> list[dict[str, Any]]:
    worker = CorpusWorker()
    try:
        return [worker.examine(path) for path in paths]
    finally:
        worker.close()


@pytest.fixture(scope="session")
def corpus_answers(corpus: list[Any]) -> dict[str, dict[str, Any]]:
    """What decoding each file of the corpus gave, under hard limits."""
    paths = [f.path for f in corpus]
    with ThreadPoolExecutor(WORKERS) as pool:
        shares = pool.map(examine_all, [paths[i::WORKERS] for i in range(WORKERS)])
        return {answer["file"]: answer for share in shares for answer in share}
