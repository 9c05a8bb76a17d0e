"""A running pool per test, and proof that it left nothing behind."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from model.inputs import InputSpec
from service.decode import DecodePool, DecodeTimeout, PoolOptions

SPEC = InputSpec(num_frames=4, image_size=16, resize_short_side=16)
MISBEHAVING = (
    sys.executable,
    "-P",
    "-B",
    str(Path(__file__).with_name("misbehaving_worker.py")),
)

# Limits that no machine is too busy for. A test of a limit sets its own.
PATIENCE: dict[str, Any] = dict.fromkeys(
    ("budget_s", "max_decode_s", "max_timeline_s", "start_timeout_s"), 3600
)

Scenario = Callable[[DecodePool], Awaitable[Any]]
WithPool = Callable[..., Any]  # the fixture `with_pool`
Order = Callable[[str], Path]  # the fixture `order`


def open_files() -> set[str]:
    return {f"{fd.name} {os.readlink(fd)}" for fd in Path("/proc/self/fd").iterdir() if fd.exists()}


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that is bound to happen; pytest's own limit ends a hopeless wait."""
    while not condition():
        await asyncio.sleep(0.005)


async def timed_out(pool: DecodePool, upload: Path | int) -> DecodeTimeout:
    """Have a worker's job ended by its deadline, a later one where it passed before the job began.

    The worker must be one that never ends by itself.
    """
    limit_s = 0.2
    while True:
        try:
            await pool.decode(upload, deadline=time.monotonic() + limit_s)
        except DecodeTimeout as error:
            return error
        except TimeoutError:
            limit_s *= 2


async def told(pool: DecodePool, upload: Path | int) -> str:
    """What the worker says, in the pixels of its clip."""
    text, _, _ = (await pool.decode(upload)).frames.tobytes().partition(b"\0")
    return text.decode()


@pytest.fixture
def spec() -> InputSpec:
    """Small frames: four of 16 pixels a side."""
    return SPEC


@pytest.fixture
def with_pool() -> WithPool:
    """Run a scenario against a started pool, and check that no process, file or map is left.

    `with_pool(scenario, workers=2, options={...})`; the workers obey their uploads unless another
    `command` is given, None for the real one. One worker and no spare, because starts cost time;
    limits on time are those of PATIENCE.
    """

    def run(
        scenario: Scenario,
        *,
        workers: int = 1,
        options: dict[str, Any] | None = None,
        command: Any = MISBEHAVING,
        spec: InputSpec = SPEC,
    ) -> Any:
        async def main() -> Any:
            chosen = PoolOptions(**({"spares": 0} | PATIENCE | (options or {})))
            more = {"command": command} if command else {}
            pool = DecodePool(workers, spec, options=chosen, **more)
            await pool.start()
            try:
                return await scenario(pool)
            finally:
                await pool.stop()
                assert pool.running == pool.waiting == 0

        children, before = set(psutil.Process().children(recursive=True)), open_files()
        outcome = asyncio.run(main())
        assert set(psutil.Process().children(recursive=True)) == children
        assert open_files() == before
        assert "memfd:frames" not in Path("/proc/self/maps").read_text()
        return outcome

    return run


@pytest.fixture
def order(tmp_path: Path) -> Order:
    """An upload that tells a misbehaving worker what to do."""
    made: list[Path] = []

    def write(text: str) -> Path:
        path = tmp_path / f"order_{len(made)}"
        path.write_text(text)
        made.append(path)
        return path

    return write
