"""Fixtures of the input tests: small numbered videos, and the corpus decoded once in processes of
their own.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

WORKER = Path(__file__).with_name("corpus_worker.py")
ROOT = Path(__file__).resolve().parents[3]
WORKERS = 2
# The manifest's own bounds are for a whole request on one core; this only ends what hangs.
HUNG_AFTER_S = 800


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


CELLS = 8


def picture(number: int, width: int, height: int) -> np.ndarray:
    """uint8 (h, w, 3): a bar code of `number` on top, something that moves below."""
    y, x = np.mgrid[:height, :width]
    moving = (x * 2 + y * 3 + number * 5) % 256
    image = np.stack([moving, (moving * 2) % 256, 255 - moving], axis=-1).astype(np.uint8)
    cells = (number % 256) >> (CELLS - 1 - np.arange(width) * CELLS // width) & 1
    image[: max(height // 8, 1)] = (cells * 255)[None, :, None]
    return image


def encode(
    codec: str,
    frames: int,
    *,
    container: str = "mp4",
    size: tuple[int, int] = (64, 48),
    rate: int = 30,
    pixels: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    path: Path | None = None,
) -> io.BytesIO:
    """A video of `frames` numbered pictures; written by way of `path` where the muxer needs one."""
    width, height = size
    target = io.BytesIO()
    with av.open(
        path or target, "w", format=container, options=dict(container_options or {})
    ) as output:
        stream: Any = output.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.thread_count = 1
        for packet in _packets(stream, frames, rate):
            output.mux(packet)
    if path is not None:
        return io.BytesIO(path.read_bytes())
    target.seek(0)
    return target


def _packets(stream: Any, frames: int, rate: int) -> Iterator[Any]:
    for number in range(frames):
        frame = av.VideoFrame.from_ndarray(picture(number, stream.width, stream.height))
        frame.pts, frame.time_base = number, Fraction(1, rate)
        yield from stream.encode(frame)
    yield from stream.encode(None)


@pytest.fixture(scope="session")
def encode_video() -> Callable[..., io.BytesIO]:
    """`encode`, for the tests."""
    return encode
