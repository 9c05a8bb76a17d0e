"""Readers of videos, those of each library in a process of their own.

Every library brings an FFmpeg. Two in one process may take each other's: OpenCV, whose own has no
decoder for AV1, has one where decord was imported before, and torchcodec ends such a process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.command_line import first_line

Fetch = Callable[[], Any]
# By the name of a reader, a file and a number of threads; None where it does not read this file.
Prepare = Callable[[str, Path, int], Fetch | None]
FRAMES = 8
# Levels of a pixel between two readers' pictures of a frame: colours differ by less, and the noise
# of two frames of a film by more.
MOST_APART = 4.0
LONGEST_S = 40.0  # of one turn; decord never returns from some files


class CannotRun(Exception):
    """A reader does not read this file; why."""


class ReaderProcess:
    """Runs readers one turn at a time; a process that ends is replaced by the next preparation.

    Args:
        prepare: Makes a reader; a function of a module, as it is called in the other process.
        longest_s: After so long a turn is given up, and the process with it.
    """

    def __init__(self, prepare: Prepare, longest_s: float = LONGEST_S) -> None:
        self._prepare, self._longest_s = prepare, longest_s
        self._connection: Connection | None = None

    def prepare(
        self, name: str, path: Path, threads: int, expected: NDArray[np.uint8] | None = None
    ) -> float | None:
        """Prepare a reader and give it its first turn; see `turn`. None where it is none here.

        `expected` is the square in the middle of the frames, (T, S, S, 3): it is held against them.
        """
        return self._ask((name, path, threads, expected))

    def turn(self, name: str) -> float:
        """Return the seconds of one turn: of the processor with one thread, else on the clock.

        Raises:
            CannotRun: The reader failed, did not give the eight frames, or ended its process.
        """
        seconds = self._ask((name,))
        assert seconds is not None
        return seconds

    def close(self) -> None:
        """End the process."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            self._process.kill()

    def _ask(self, what: tuple[Any, ...]) -> float | None:
        if self._connection is None:
            self._connection, theirs = get_context("spawn").Pipe()
            arguments = (theirs, self._prepare)
            self._process = get_context("spawn").Process(target=_serve, args=arguments, daemon=True)
            self._process.start()
            theirs.close()
        try:
            self._connection.send(what)
            if not self._connection.poll(self._longest_s):
                self.close()
                raise CannotRun(f"not done in {self._longest_s:g} s")
            answer = self._connection.recv()
        except (EOFError, OSError):
            self.close()
            raise CannotRun("ended its process") from None
        if isinstance(answer, str):
            raise CannotRun(answer)
        seconds: float | None = answer
        return seconds


def _serve(connection: Connection, prepare: Prepare) -> None:
    fetches: dict[str, Fetch] = {}
    clocks: dict[str, Callable[[], float]] = {}
    while True:
        try:
            name, *file = connection.recv()
        except EOFError:
            return
        try:
            expected = None
            if file:
                fetches.pop(name, None)
                path, threads, expected = file
                fetch = prepare(name, path, threads)
                if fetch is None:
                    connection.send(None)
                    continue
                fetches[name] = fetch
                clocks[name] = time.process_time if threads == 1 else time.perf_counter
            connection.send(_timed(fetches[name], clocks[name], expected))
        except Exception as error:
            connection.send(f"{type(error).__name__}: {first_line(error)[:80]}")


def _timed(fetch: Fetch, clock: Callable[[], float], expected: NDArray[np.uint8] | None) -> float:
    began = clock()
    frames = fetch()
    seconds = clock() - began
    if not isinstance(frames, int) and (
        len(frames) != FRAMES or any(frame is None for frame in frames)
    ):
        raise ValueError(f"no {FRAMES} frames came of it")
    if expected is not None:
        _check_frames([np.asarray(frame) for frame in frames], expected)
    return seconds


def _check_frames(frames: list[NDArray[np.uint8]], expected: NDArray[np.uint8]) -> None:
    """Raise ValueError where one is not the frame that was asked for.

    Frames are (h, w, 3) or (3, h, w), their colours in any order, converted by any rule.
    """
    side = expected.shape[1]
    for number, (frame, right) in enumerate(zip(frames, expected, strict=True)):
        picture = frame if frame.shape[-1] == 3 else frame.transpose(1, 2, 0)
        top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
        middle = picture[top : top + side, left : left + side].mean(axis=-1)
        apart = float(np.abs(middle - right.mean(axis=-1)).mean())
        if apart > MOST_APART:
            raise ValueError(f"frame {number} is another one ({apart:.1f} levels apart)")
