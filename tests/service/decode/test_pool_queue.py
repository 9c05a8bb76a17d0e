"""Waiting for a worker: in order, no longer than wanted, and without leaving anything behind."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import psutil
import pytest

from model.inputs import decode_clip
from service.decode import DecodeCrashed, DecodePool, DecodeUnavailable
from service.decode.protocol import Cancel
from service.decode.unwanted import Unwanted, check_wanted
from tests.service.conftest import clip_bytes, long_gop
from tests.service.decode.conftest import SPEC, Order, WithPool, told, until


def test_first_come_first_served(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        holding = order("hold")
        first = asyncio.create_task(pool.decode(holding))
        await until(lambda: pool.running)
        served: list[int] = []

        async def wait_in_line(number: int) -> None:
            await pool.decode(order("fine"))
            served.append(number)

        line = [asyncio.create_task(wait_in_line(i)) for i in range(6)]
        await until(lambda: pool.waiting == 6)
        line[2].cancel()
        holding.write_text("fine")
        await asyncio.gather(first, *line, return_exceptions=True)
        assert served == [0, 1, 3, 4, 5]
        assert pool.stats.dropped == 1

    with_pool(scenario)


def test_fifty_clips_over_two_workers(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        most = 0

        async def one() -> int:
            nonlocal most
            clip = await pool.decode(upload, views=2)
            most = max(most, pool.running)
            return int(clip.frames.sum())

        upload = order("fine")
        sums = await asyncio.gather(*(one() for _ in range(50)))
        assert set(sums) == {2 * 4 * 16 * 16 * 3 * 7}
        assert most <= 2
        assert pool.stats.decoded == pool.stats.jobs == 50
        assert pool.stats.started == 3
        assert not pool.stats.ended

    with_pool(scenario, workers=2, options={"spares": 1})


def test_a_deadline_that_passes_in_line(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        holding = order("hold")
        first = asyncio.create_task(pool.decode(holding))
        await until(lambda: pool.running)
        with pytest.raises(TimeoutError):
            await pool.decode(order("fine"), deadline=time.monotonic() + 0.05)
        assert pool.waiting == 0
        holding.write_text("fine")
        await first
        assert not pool.stats.ended

    with_pool(scenario)


def test_a_deadline_in_the_past_starts_nothing(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        with pytest.raises(TimeoutError):
            await pool.decode(order("hang"), deadline=time.monotonic() - 1)
        await pool.decode(order("fine"))
        assert not pool.stats.ended

    with_pool(scenario)


def test_a_clip_that_nobody_wants_any_more_ends_its_worker(
    with_pool: WithPool, order: Order
) -> None:
    async def scenario(pool: DecodePool) -> None:
        (pid,) = pool.pids
        job = asyncio.create_task(pool.decode(order("hang")))
        await until(lambda: pool.running)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        process = psutil.Process(pid)
        await until(lambda: not process.is_running() or process.status() == "zombie")
        await pool.decode(order("fine"))
        assert pool.stats.ended == {"cancelled": 1}

    with_pool(scenario, options={"cancel_grace_s": 0.05})


def test_a_worker_stops_decoding_what_nobody_wants_and_goes_on(
    with_pool: WithPool, tmp_path: Path
) -> None:
    async def scenario(pool: DecodePool) -> None:
        for _ in range(3):
            job = asyncio.create_task(pool.decode(upload))
            await until(lambda: pool.running)
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
            await until(lambda: not pool.running)
        await pool.decode(small)
        assert not pool.stats.ended
        assert pool.stats.started == 1

    upload, small = tmp_path / "clip.mp4", tmp_path / "small"
    long_gop(upload, seconds=10)
    small.write_bytes(clip_bytes())
    with_pool(scenario, command=None, options={"cancel_grace_s": 3600, "max_decode_s": 3600})


def test_word_that_a_job_is_unwanted_may_come_when_it_is_done(
    with_pool: WithPool, tmp_path: Path
) -> None:
    async def scenario(pool: DecodePool) -> None:
        await pool.decode(upload)
        worker = pool._supervisor.take()
        assert worker is not None
        worker.tell(Cancel(ticket="0" * 16).to_bytes())
        pool._supervisor.give_back(worker)
        await pool.decode(upload)
        assert not pool.stats.ended

    upload = tmp_path / "clip.mp4"
    upload.write_bytes(clip_bytes())
    with_pool(scenario, command=None)


def test_a_worker_looks_before_each_packet_whether_its_job_is_wanted() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        check_wanted(theirs)
        ours.send(Cancel(ticket="0" * 16).to_bytes())
        for _ in range(2):  # by every thread of the job
            with pytest.raises(Unwanted):
                check_wanted(theirs)


def test_a_clip_that_is_almost_done_may_finish_unwanted(with_pool: WithPool, order: Order) -> None:
    """The worker is still there, and the result goes nowhere."""

    async def scenario(pool: DecodePool) -> None:
        holding = order("hold")
        job = asyncio.create_task(pool.decode(holding))
        await until(lambda: pool.running)
        job.cancel()
        with pytest.raises(asyncio.CancelledError):
            await job
        assert pool.running == 1
        holding.write_text("fine")
        await until(lambda: not pool.running)
        await pool.decode(order("fine"))
        assert not pool.stats.ended
        assert pool.stats.started == 1

    with_pool(scenario, options={"cancel_grace_s": 3600})


def test_cancelled_at_the_moment_a_worker_was_given(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        for _ in range(20):
            job = asyncio.create_task(pool.decode(order("fine")))
            await asyncio.sleep(0)
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
        await pool.decode(order("fine"))
        await until(lambda: not pool.running)

    with_pool(scenario, options={"cancel_grace_s": 3600})


def test_stopping_answers_everybody(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        jobs = [asyncio.create_task(pool.decode(order("hang"))) for _ in range(4)]
        await until(lambda: pool.running)
        await pool.stop()
        endings = await asyncio.gather(*jobs, return_exceptions=True)
        assert all(isinstance(e, DecodeUnavailable) for e in endings)
        assert not pool.alive
        with pytest.raises(DecodeUnavailable):
            await pool.decode(order("fine"))

    with_pool(scenario)


def test_a_spare_takes_over_at_once(with_pool: WithPool, order: Order) -> None:
    """The clip behind a killed worker does not wait for a new one to load."""

    async def scenario(pool: DecodePool) -> None:
        bad = asyncio.create_task(pool.decode(order("hang")))
        await until(lambda: pool.running)
        good = asyncio.create_task(told(pool, order("pid")))
        await until(lambda: pool.waiting)
        before = pool.pids
        bad.cancel()
        assert int(await good) in before
        await until(lambda: pool.stats.started == 3 and len(pool.pids) == 2)

    with_pool(scenario, options={"spares": 1, "slow_after_s": 3600, "cancel_grace_s": 0})


def test_clips_behind_a_slow_one_go_to_the_spare(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        holding = order("hold")
        slow = asyncio.create_task(pool.decode(holding, client="slow"))
        await until(lambda: pool.running)
        clips = await asyncio.gather(*(pool.decode(order("fine")) for _ in range(4)))
        assert len(clips) == 4
        assert not slow.done()
        holding.write_text("fine")
        await slow
        assert pool.stats.started == 2

    with_pool(scenario, options={"spares": 1, "slow_after_s": 0.05})


def test_slow_clips_cannot_take_every_worker_there_is(with_pool: WithPool, order: Order) -> None:
    """Only as many beyond the agreed number as there are spares."""

    async def scenario(pool: DecodePool) -> None:
        uploads = [order("hold") for _ in range(4)]
        jobs = [asyncio.create_task(pool.decode(up, client=str(up))) for up in uploads]
        await until(lambda: pool.running == 2)
        for upload in uploads:
            upload.write_text("fine")
        await asyncio.gather(*jobs)
        assert pool.stats.started == 2

    with_pool(scenario, options={"spares": 1, "slow_after_s": 0.02})


def test_a_spare_is_not_for_who_holds_up_the_workers(with_pool: WithPool, order: Order) -> None:
    """Clips of one client that take long leave the spare to all others, who need not wait."""

    async def scenario(pool: DecodePool) -> None:
        uploads = [order("hold") for _ in range(4)]
        greedy = [asyncio.create_task(pool.decode(up, client="greedy")) for up in uploads]
        await until(lambda: pool.running == 2)
        for _ in range(3):
            await pool.decode(order("fine"), client="modest")
        assert pool.waiting == 2
        for upload in uploads:
            upload.write_text("fine")
        await asyncio.gather(*greedy)

    with_pool(scenario, workers=2, options={"spares": 1, "slow_after_s": 0.02})


def test_clients_are_served_in_turn(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        holding = order("hold")
        first = asyncio.create_task(pool.decode(holding, client="greedy"))
        await until(lambda: pool.running)
        served: list[str] = []

        async def wait_in_line(client: str) -> None:
            await pool.decode(order("fine"), client=client)
            served.append(client)

        line = [asyncio.create_task(wait_in_line("greedy")) for _ in range(6)]
        await until(lambda: pool.waiting == 6)
        line += [asyncio.create_task(wait_in_line("modest")) for _ in range(2)]
        await until(lambda: pool.waiting == 8)
        holding.write_text("fine")
        await asyncio.gather(first, *line)
        assert served[:4] == ["greedy", "modest", "greedy", "modest"]

    with_pool(scenario)


def test_clips_that_are_known_to_be_large_leave_the_spare_to_small_ones(
    with_pool: WithPool, order: Order
) -> None:
    """Each of a client of its own; that none is slow yet does not matter."""

    async def scenario(pool: DecodePool) -> None:
        uploads = [order("large hold") for _ in range(8)]
        jobs = [asyncio.create_task(pool.decode(up, client=str(up))) for up in uploads]
        await until(lambda: pool.stats.put_off == 7)
        await until(lambda: pool.waiting == 6)
        for number in range(3):
            await pool.decode(order("fine"), client=f"small {number}")
        assert pool.running == 2
        assert pool.waiting == 6
        for upload in uploads:
            upload.write_text("fine")
        await asyncio.gather(*jobs)
        assert pool.stats.put_off == 7, "each once, but for one that met an idle pool"
        assert pool.stats.started == 3

    with_pool(scenario, workers=2, options={"spares": 1, "slow_after_s": 3600})


def test_a_large_clip_has_its_turn_among_small_ones(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        holding = order("hold")
        first = asyncio.create_task(pool.decode(holding, client="first"))
        await until(lambda: pool.running)
        served: list[str] = []

        async def wait_in_line(client: str, word: str) -> None:
            await pool.decode(order(word), client=client)
            served.append(client)

        line = [asyncio.create_task(wait_in_line("large", "large fine"))]
        line += [asyncio.create_task(wait_in_line("small", "fine")) for _ in range(4)]
        await until(lambda: pool.waiting == 5)
        holding.write_text("fine")
        await asyncio.gather(first, *line)
        assert pool.stats.put_off == 1
        assert "large" in served[:3]

    with_pool(scenario)


def test_a_clip_that_was_put_off_has_the_same_frames(
    with_pool: WithPool, videos: dict[str, Path]
) -> None:
    path = videos["arm_wrestling"]

    async def scenario(pool: DecodePool) -> None:
        clip = await pool.decode(path)
        assert pool.stats.put_off == 1
        with path.open("rb") as file:
            assert (clip.frames == decode_clip(file, SPEC).frames).all()

    with_pool(scenario, command=None, options={"small_s": 1e-9})


def test_a_worker_puts_a_clip_off_once_at_most(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        with pytest.raises(DecodeCrashed):
            await pool.decode(order('lie raw {"kind": "put_off", "ticket": "OF THE JOB"}'))
        assert pool.stats.put_off == 1

    with_pool(scenario)
