"""Whatever a job does to its worker, its sender gets one plain answer and nobody else notices."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import time
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from model.inputs import VideoError
from service.decode import DecodeCrashed, DecodePool, DecodeTimeout, DecodeUnavailable, TooDemanding
from service.decode.ending import Ending
from tests.service.decode.conftest import Order, WithPool, timed_out, until

MIB = 1 << 20
Refused = TypeVar("Refused", bound=VideoError)


async def refused(pool: DecodePool, path: Path, kind: type[Refused], **more: Any) -> Refused:
    with pytest.raises(kind) as caught:
        await pool.decode(path, **more)
    return caught.value


async def still_works(pool: DecodePool, order: Order) -> None:
    clip = await pool.decode(order("fine"))
    assert clip.frames.min() == clip.frames.max() == 7


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_is_the_senders_alone(with_pool: WithPool, order: Order, number: int) -> None:
    async def scenario(pool: DecodePool) -> None:
        error = await refused(pool, order(f"die {int(number)}"), DecodeCrashed)
        assert error.code == "decode_crashed"
        await still_works(pool, order)
        assert pool.stats.ended == {"crash": 1}

    with_pool(scenario)


def test_a_worker_killed_from_outside(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        job = asyncio.create_task(pool.decode(order("hang")))
        await until(lambda: pool.running)
        os.kill(pool.pids[0], signal.SIGKILL)
        with pytest.raises(DecodeCrashed):
            await job
        await still_works(pool, order)

    with_pool(scenario)


def test_the_clip_after_a_damaging_one_gets_a_second_try(with_pool: WithPool, order: Order) -> None:
    """A worker that served others before may have been damaged by them."""

    async def scenario(pool: DecodePool) -> None:
        await still_works(pool, order)
        upload = order("hold")
        job = asyncio.create_task(pool.decode(upload))
        await until(lambda: pool.running)
        victim = pool.pids[0]
        os.kill(victim, signal.SIGKILL)
        await until(lambda: pool.pids and pool.pids[0] != victim)
        upload.write_text("fine")
        assert (await job).info.codec == "test"
        assert pool.stats.retried == 1

    with_pool(scenario)


def test_a_second_try_is_not_put_off(with_pool: WithPool, order: Order) -> None:
    """Whose worker dies has waited for one already."""

    async def scenario(pool: DecodePool) -> None:
        await still_works(pool, order)
        (victim,) = pool.pids
        os.kill(victim, signal.SIGSTOP)  # it has a second job, and never reads it
        job = asyncio.create_task(pool.decode(order("large fine")))
        await until(lambda: pool.running)
        os.kill(victim, signal.SIGKILL)
        assert (await job).info.codec == "test"
        assert (pool.stats.retried, pool.stats.put_off) == (1, 0)

    with_pool(scenario)


def test_a_clip_that_crashes_twice_is_blamed(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        await still_works(pool, order)
        await refused(pool, order("die 11"), DecodeCrashed)
        assert pool.stats.ended == {"crash": 2}

    with_pool(scenario)


@pytest.mark.parametrize("order_text", ["hang", "spin"])
def test_a_job_that_never_ends(with_pool: WithPool, order: Order, order_text: str) -> None:
    async def scenario(pool: DecodePool) -> None:
        error = await refused(pool, order(order_text), DecodeTimeout)
        assert error.code == "decode_timeout"
        assert "1.5 seconds" in error.detail
        assert pool.stats.ended == {"timeout": 1}
        pool._clips._options = pool.options.model_copy(update={"max_decode_s": 3600})
        await still_works(pool, order)
        assert pool.stats.ended == {"timeout": 1}

    with_pool(scenario, options={"max_decode_s": 1.5})


def test_a_deadline_ends_a_job_too(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        await timed_out(pool, order("hang"))
        assert pool.stats.ended[Ending.TIMEOUT] == 1

    with_pool(scenario)


def test_the_kernel_counts_processor_time_when_the_parent_cannot(
    with_pool: WithPool, order: Order
) -> None:
    """The event loop is blocked here, so no timer of ours can fire."""

    async def scenario(pool: DecodePool) -> None:
        process = psutil.Process(pool.pids[0])
        job = asyncio.create_task(pool.decode(order("spin")))
        await until(lambda: pool.running)
        with contextlib.suppress(psutil.NoSuchProcess):  # where we were the quicker ones after all
            while process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.05)
        # The death is seen before the timer that is due as well.
        with pytest.raises(DecodeTimeout):
            await job

    with_pool(scenario, options={"max_decode_s": 0.5})


def test_memory_is_bounded_and_the_worker_survives(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        (pid,) = pool.pids
        before = psutil.Process(pid).memory_info().rss
        error = await refused(pool, order("hog"), TooDemanding)
        assert error.code == "video_too_demanding"
        peak = next(
            int(line.split()[1]) * 1024
            for line in Path(f"/proc/{pid}/status").read_text().splitlines()
            if line.startswith("VmHWM")
        )
        assert 32 * MIB < peak - before < 80 * MIB
        await still_works(pool, order)
        assert pool.pids == (pid,)

    with_pool(scenario, options={"memory_bytes": 64 * MIB})


def test_descriptors_are_bounded(
    with_pool: WithPool,
    order: Order,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Also where no filter forbids making them."""
    monkeypatch.setattr("service.decode.pool.compile_filter", lambda: "")

    async def scenario(pool: DecodePool) -> None:
        await refused(pool, order("files"), DecodeCrashed)
        assert "Too many open files" in caplog.text
        await still_works(pool, order)
        assert pool.stats.ended == {"failed": 1}

    with_pool(scenario)


def test_a_bug_of_ours_is_logged_and_not_told(
    with_pool: WithPool, order: Order, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(pool: DecodePool) -> None:
        error = await refused(pool, order("bug"), DecodeCrashed)
        assert "secret" not in error.detail
        assert "KeyError" in caplog.text
        await still_works(pool, order)

    with_pool(scenario)


def test_limits_that_the_kernel_holds(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        (pid,) = pool.pids
        await still_works(pool, order)
        limits = {
            name: resource.prlimit(pid, getattr(resource, f"RLIMIT_{name}"))
            for name in ("AS", "DATA", "NOFILE", "NPROC", "FSIZE", "CORE", "CPU")
        }
        assert limits["NOFILE"] == (16, 16)
        assert limits["NPROC"] == (4096, 4096)
        assert limits["FSIZE"] == limits["CORE"] == (0, 0)
        assert limits["DATA"][1] < limits["AS"][1] < 1536 * MIB
        assert limits["CPU"][0] < 700
        assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == "1000"

    with_pool(scenario, options={"max_decode_s": 600})


def test_others_keep_working_while_one_misbehaves(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        bad = [
            asyncio.create_task(pool.decode(order("die 11"))),
            asyncio.create_task(timed_out(pool, order("hang"))),
            asyncio.create_task(pool.decode(order("hog"))),
        ]
        good = [asyncio.create_task(pool.decode(order("fine"))) for _ in range(12)]
        assert len(await asyncio.gather(*good)) == 12
        endings = await asyncio.gather(*bad, return_exceptions=True)
        assert [getattr(e, "code", e) for e in endings] == [
            "decode_crashed",
            "decode_timeout",
            "video_too_demanding",
        ]

    with_pool(
        scenario,
        workers=2,
        options={"spares": 1, "memory_bytes": 32 * MIB},
    )


def test_no_descriptor_left_in_the_parent(with_pool: WithPool, order: Order) -> None:
    """The clip in question cannot be served; the pool goes on as soon as there is room."""

    async def scenario(pool: DecodePool) -> None:
        upload = order("fine")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (8, hard))
        try:
            with pytest.raises(DecodeUnavailable):
                await pool.decode(upload)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await still_works(pool, order)
        assert not pool.stats.ended

    with_pool(scenario)


def test_an_upload_that_vanished(with_pool: WithPool, order: Order, tmp_path: Path) -> None:
    async def scenario(pool: DecodePool) -> None:
        with pytest.raises(DecodeUnavailable, match="upload"):
            await pool.decode(tmp_path / "gone")
        await still_works(pool, order)

    with_pool(scenario)
