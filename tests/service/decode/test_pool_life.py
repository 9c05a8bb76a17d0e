"""Starting, replacing, retiring and ending workers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from model.inputs import InputSpec
from service.decode import DecodePool, DecodeUnavailable, PoolOptions
from service.decode.ending import Ending
from service.decode.syscalls import FilterUnavailable
from tests.service.decode.conftest import MISBEHAVING, PATIENCE, Order, WithPool, told, until

SPEC = InputSpec(num_frames=4, image_size=16, resize_short_side=16)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_worker_that_dies_idle_is_replaced(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        await pool.decode(order("fine"))
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
        await until(lambda: pool.pids and pool.pids != (pid,))
        assert pool.alive
        await pool.decode(order("fine"))
        assert pool.stats.ended == {"idle": 1}
        assert pool.stats.retried == 0

    with_pool(scenario)


def test_the_first_worker_decodes_before_the_others_are_there(order: Order) -> None:
    async def main() -> None:
        pool = DecodePool(2, SPEC, options=PoolOptions(spares=1, **PATIENCE), command=MISBEHAVING)
        await pool.start(at_first=1)
        assert (len(pool.pids), pool.ready) == (1, 1)
        await pool.decode(order("fine"))
        pool.complete()
        assert len(pool.pids) == 3
        await until(lambda: pool.ready == 3)
        await pool.stop()
        assert pool.stats.started == 3

    asyncio.run(main())


def test_workers_are_of_our_session_and_not_of_our_group(with_pool: WithPool) -> None:
    """Ctrl-C is for the service alone; and Linux shares processors out by session first."""

    async def scenario(pool: DecodePool) -> None:
        for pid in pool.pids:
            assert os.getsid(pid) == os.getsid(0)
            assert os.getpgid(pid) == pid

    with_pool(scenario)


def test_workers_retire_after_enough_clips(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        first = set(pool.pids)
        for _ in range(4):
            await pool.decode(order("fine"))
            await until(lambda: len(pool.pids) == 2)
        assert pool.stats.ended[Ending.JOBS] >= 1
        assert set(pool.pids) != first
        assert pool.stats.retried == 0

    with_pool(scenario, options={"spares": 1, "jobs_per_worker": 2})


def test_workers_that_grew_retire(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        await pool.decode(order("grow 40"))
        assert pool.stats.ended == {"memory": 1}
        await pool.decode(order("fine"))
        assert pool.stats.ended == {"memory": 1}

    with_pool(scenario, options={"spares": 1, "max_growth_bytes": 32 << 20})


def test_a_worker_that_grew_stays_until_another_is_ready(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        for _ in range(3):
            await pool.decode(order("grow 40"))
        assert not pool.stats.ended

    with_pool(scenario, options={"max_growth_bytes": 32 << 20})


def test_a_fresh_worker_for_each_clip(with_pool: WithPool, order: Order) -> None:
    """Never a second clip in one process, also where nobody stands by."""

    async def scenario(pool: DecodePool) -> None:
        served = {await told(pool, order("pid")) for _ in range(3)}
        assert len(served) == 3
        assert pool.stats.ended == {Ending.JOBS: 3}

    with_pool(scenario, options={"jobs_per_worker": 1})


def test_workers_that_lack_a_measure_are_not_used_where_all_are_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing() -> str:
        raise FilterUnavailable("libseccomp is missing")

    monkeypatch.setattr("service.decode.pool.compile_filter", missing)

    async def main() -> None:
        pool = DecodePool(2, SPEC, options=PoolOptions(sandbox="require"), command=MISBEHAVING)
        with pytest.raises(DecodeUnavailable, match=r"lacks seccomp \(no: libseccomp is missing\)"):
            await pool.start()
        assert pool.pids == ()

    asyncio.run(main())


def test_workers_that_cannot_start(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        pool = DecodePool(2, SPEC, command=(sys.executable, "-c", "raise SystemExit(3)"))
        with pytest.raises(DecodeUnavailable, match="cannot start"):
            await pool.start()
        assert not pool.alive
        assert pool.pids == ()

    asyncio.run(main())


def test_a_program_that_is_not_there() -> None:
    async def main() -> None:
        pool = DecodePool(1, SPEC, command=("/nonexistent/python",))
        with pytest.raises(DecodeUnavailable, match="FileNotFoundError"):
            await pool.start()

    asyncio.run(main())


def test_a_worker_that_says_nothing_at_its_start() -> None:
    async def main() -> None:
        options = PoolOptions(start_timeout_s=0.1)
        pool = DecodePool(1, SPEC, options=options, command=("/bin/sleep", "600"))
        with pytest.raises(DecodeUnavailable):
            await pool.start()
        assert pool.stats.ended[Ending.START] >= 3

    asyncio.run(main())


def test_down_and_up_again(order: Order, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Workers that cannot start any more make the pool say so, and it recovers by itself."""
    working = str(Path(__file__).with_name("misbehaving_worker.py"))
    program = tmp_path / "worker.py"
    program.symlink_to(working)

    async def main() -> None:
        pool = DecodePool(
            1,
            SPEC,
            options=PoolOptions(spares=0, **PATIENCE),
            command=(sys.executable, "-P", str(program)),
        )
        await pool.start()
        program.unlink()
        program.write_text("raise SystemExit('not today')")
        job = asyncio.create_task(pool.decode(order("hang")))
        await until(lambda: pool.running)
        os.kill(pool.pids[0], signal.SIGKILL)
        await asyncio.gather(job, return_exceptions=True)
        with pytest.raises(DecodeUnavailable):
            await pool.decode(order("fine"))
        assert not pool.alive
        program.unlink()
        program.symlink_to(working)
        await until(lambda: pool.alive)
        assert (await pool.decode(order("fine"))).info.codec == "test"
        await pool.stop()

    asyncio.run(main())
    assert "cannot start" in caplog.text


PARENT = """
import asyncio, sys
from pathlib import Path
from model.inputs import InputSpec
from service.decode import DecodePool, PoolOptions

async def main():
    spec = InputSpec(num_frames=4, image_size=16, resize_short_side=16)
    pool = DecodePool(1, spec, options=PoolOptions(max_decode_s=600), command=sys.argv[2:])
    await pool.start()
    job = asyncio.create_task(pool.decode(Path(sys.argv[1])))
    while not pool.running:
        await asyncio.sleep(0.01)
    print(*pool.pids, flush=True)
    await job

asyncio.run(main())
"""


def test_workers_die_with_a_parent_that_was_killed(order: Order, tmp_path: Path) -> None:
    """One at work and one idle: neither outlives the service."""
    worker = str(Path(__file__).with_name("misbehaving_worker.py"))
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(order("spin")), sys.executable, "-P", worker],
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(pids) == 2
        parent.kill()
    while not all(map(is_gone, pids)):
        time.sleep(0.01)


def test_a_pool_starts_once(with_pool: WithPool) -> None:
    async def scenario(pool: DecodePool) -> None:
        with pytest.raises(RuntimeError, match="started before"):
            await pool.start()

    with_pool(scenario)


def test_nothing_to_ask_of_a_pool_that_never_started(order: Order) -> None:
    async def main() -> None:
        pool = DecodePool(1, SPEC)
        assert not pool.alive
        assert pool.sandbox == {}
        with pytest.raises(DecodeUnavailable):
            await pool.decode(order("fine"))
        await pool.stop()

    asyncio.run(main())


@pytest.mark.parametrize("workers", [0, -1])
def test_a_pool_has_workers(workers: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        DecodePool(workers, SPEC)
