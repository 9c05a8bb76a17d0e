"""Videos in windows: one worker answers batch after batch, and nothing it says is believed."""

from __future__ import annotations

import asyncio
import json
import select
import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from model.inputs import NotAVideo, VideoError, decode_clip
from model.inputs.windows import Cut
from service.decode import DecodeCrashed, DecodePool, DecodeTimeout, DecodeUnavailable
from service.decode.ending import Ending
from service.decode.handover import Handover
from service.decode.process import WorkerProcess
from service.decode.windows import DecodedWindows, VideoBegun
from tests.service.conftest import clip_bytes
from tests.service.decode.conftest import SPEC, Order, WithPool, until

LYING = (sys.executable, "-P", "-B", str(Path(__file__).with_name("lying_window_worker.py")))
CUT = Cut(1, 0.5, 10)
TICKET = "OF THE JOB"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Four seconds, eight frames each."""
    path = tmp_path / "video"
    path.write_bytes(clip_bytes(frames=32))
    return path


async def read(
    pool: DecodePool, source: Path, cut: Cut = CUT, **options: Any
) -> tuple[VideoBegun, list[DecodedWindows]]:
    begun, *rest = [part async for part in pool.windows(source, cut, **options)]
    assert isinstance(begun, VideoBegun)
    return begun, [part for part in rest if isinstance(part, DecodedWindows)]


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_windows_come_in_batches_with_the_frames_of_clips(
    with_pool: WithPool, video: Path, batch: int
) -> None:
    async def scenario(pool: DecodePool) -> Any:
        answers = [await read(pool, video, batch=batch) for _ in range(2)]
        assert (pool.stats.jobs, pool.stats.decoded, pool.stats.started) == (2, 2, 1)
        return answers[1]

    begun, batches = with_pool(scenario, command=None)
    sizes = [len(one.times) for one in batches]
    assert begun.windows == sum(sizes) == 7
    assert all(size == min(batch, 10, 7) for size in sizes[:-1])
    with video.open("rb") as source:
        for one in batches:
            for frames, times in zip(one.frames, one.times, strict=True):
                clip = decode_clip(source, SPEC, start=times.start_s, end=times.end_s)
                assert (clip.frames[0] == frames).all()
                assert clip.info.frame_times_s == times.times_s


def test_a_worker_goes_on_after_a_refusal(with_pool: WithPool, tmp_path: Path, video: Path) -> None:
    async def scenario(pool: DecodePool) -> None:
        bad = tmp_path / "bad"
        bad.write_bytes(b"no video" * 100)
        with pytest.raises(NotAVideo):
            await read(pool, bad)
        with pytest.raises(VideoError, match="windows"):
            await read(pool, video, Cut(0.5, 0.1, 3))
        await read(pool, video)
        await pool.decode(video)
        assert (pool.stats.started, pool.stats.refused) == (1, 2)

    with_pool(scenario, command=None)


@pytest.mark.parametrize("parts", [0, 1, 2])
def test_leaving_ends_the_work_and_not_the_worker(
    with_pool: WithPool, video: Path, parts: int
) -> None:
    async def scenario(pool: DecodePool) -> None:
        for _ in range(3):
            async with aclosing(pool.windows(video, CUT)) as windows:
                for _ in range(parts):
                    await anext(windows)
            await until(lambda: pool.running == 0)
        await read(pool, video)
        assert pool.stats.started == 1
        assert not pool.stats.ended

    with_pool(scenario, command=None, options={"cancel_grace_s": 3600})


def test_leaving_when_the_last_answer_lies_unheard(with_pool: WithPool, video: Path) -> None:
    async def scenario(pool: DecodePool) -> None:
        async with aclosing(pool.windows(video, CUT, batch=100)) as windows:
            await anext(windows)
            await anext(windows)
            (worker,) = pool._queue._client_of
            await until(lambda: worker._answer is None)
        await until(lambda: pool.running == 0)
        await read(pool, video)
        assert not pool.stats.ended

    with_pool(scenario, command=None, options={"cancel_grace_s": 3600})


def test_leaving_when_more_comes_behind_an_answer_that_lies_unheard(
    with_pool: WithPool, video: Path
) -> None:
    async def scenario(pool: DecodePool) -> None:
        async with aclosing(pool.windows(video, CUT, batch=1)) as windows:
            await anext(windows)
            await anext(windows)
            (worker,) = pool._queue._client_of
            await until(lambda: worker._answer is None)
        select.select([worker._socket], [], [])  # no callback is called meanwhile
        worker._readable()
        await until(lambda: pool.running == 0)
        await read(pool, video)
        assert not pool.stats.ended

    with_pool(scenario, command=None, options={"cancel_grace_s": 3600})


def test_a_cancelled_wait_for_a_place_gives_it_up(with_pool: WithPool, video: Path) -> None:
    async def scenario(pool: DecodePool) -> None:
        async with aclosing(pool.windows(video, CUT)) as first:
            await anext(first)
            waiting = asyncio.ensure_future(read(pool, video))
            await until(lambda: pool.waiting == 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert pool.waiting == 0
            after = asyncio.ensure_future(read(pool, video))
            await until(lambda: pool.waiting == 1)
        await after

    with_pool(scenario, command=None)


def test_clips_have_a_worker_while_videos_are_read(with_pool: WithPool, video: Path) -> None:
    """One alone, with a spare: those of the same client, too."""

    async def scenario(pool: DecodePool) -> None:
        async with aclosing(pool.windows(video, CUT, client="a")) as windows:
            await anext(windows)
            for client in ("a", "b"):
                await pool.decode(video, client=client)

    with_pool(scenario, command=None, options={"spares": 1})


def test_a_worker_for_which_there_is_no_memory_is_kept(
    with_pool: WithPool, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def memory(*_: object) -> None:
        raise DecodeUnavailable("of the test")

    async def scenario(pool: DecodePool) -> None:
        with monkeypatch.context() as without:
            without.setattr(Handover, "memory", memory)
            with pytest.raises(DecodeUnavailable, match="of the test"):
                await read(pool, video)
        assert pool.stats.ended[Ending.CANCELLED] == 0
        await read(pool, video)
        assert pool.stats.started == 1

    with_pool(scenario, command=None)


def test_each_thread_has_processor_time(
    with_pool: WithPool, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a clip, and once its length is known that of the video."""
    limits: list[float] = []
    monkeypatch.setattr(Handover, "_threads", lambda _: 4)
    monkeypatch.setattr(WorkerProcess, "limit_cpu", lambda _, seconds: limits.append(seconds))
    options = {"max_decode_s": 1000, "max_timeline_s": 2000}
    with_pool(lambda pool: read(pool, order(json.dumps(HONEST))), command=LYING, options=options)
    assert limits == [4 * 1000, 4 * 1003]


def test_stopping_the_pool_ends_a_video(with_pool: WithPool, video: Path) -> None:
    async def scenario(pool: DecodePool) -> None:
        windows = pool.windows(video, CUT)
        await anext(windows)
        await pool.stop()
        with pytest.raises(DecodeUnavailable):
            async for _ in windows:
                pass

    with_pool(scenario, command=None)


# --- what workers may say -------------------------------------------------------------------------

BEGUN: dict[str, Any] = {
    "kind": "begun",
    "ticket": TICKET,
    "windows": 2,
    "info": {
        "duration_s": 3.0,
        "fps": 25.0,
        "width": 8,
        "height": 8,
        "codec": "h264",
        "frames": 75,
        "frame_times_s": [],
    },
}
WINDOW: dict[str, Any] = {"start_s": 0.0, "end_s": 1.0, "times_s": [0.1, 0.3, 0.5, 0.9]}
BATCH: dict[str, Any] = {"kind": "batch", "ticket": TICKET, "windows": [WINDOW]}
END = {"kind": "finished", "ticket": TICKET}
HONEST = [BEGUN, "wait", BATCH, "wait", END]


def begun(**info: Any) -> dict[str, Any]:
    return {**BEGUN, "info": {**BEGUN["info"], **info}}


def batch(**window: Any) -> dict[str, Any]:
    return {**BATCH, "windows": [{**WINDOW, **window}]}


LIES: dict[str, list[Any]] = {
    "no answer": ["hello"],
    "another ticket": [{**BEGUN, "ticket": "0" * 16}],
    "a clip": [{**BEGUN, "kind": "decoded"}],
    "an end before the beginning": [END],
    "windows before the beginning": [BATCH],
    "two beginnings": [BEGUN, "wait", BEGUN],
    "more windows than asked for": [{**BEGUN, "windows": 11}],
    "no windows": [{**BEGUN, "windows": 0}],
    "times in the facts": [begun(frame_times_s=[0.0])],
    "another rule": [begun(frame_rule="keyframes")],
    "no codec": [begun(codec="h264\n")],
    "unknown fields": [{**BEGUN, "more": 1}],
    "a batch that is too large": [BEGUN, "wait", {**BATCH, "windows": [WINDOW] * 2}],
    "an empty batch": [BEGUN, "wait", {**BATCH, "windows": []}],
    "windows without end": [BEGUN, *["wait", BATCH] * 11],
    "windows out of order": [BEGUN, "wait", batch(start_s=0.5), "wait", BATCH],
    "a window backwards": [BEGUN, "wait", batch(start_s=1.0, end_s=0.0)],
    "a window that is too long": [BEGUN, "wait", batch(end_s=1.5)],
    "times outside of the window": [BEGUN, "wait", batch(times_s=[0.0, 0.1, 0.2, 1.2])],
    "too few times": [BEGUN, "wait", batch(times_s=[0.1])],
    "no times": [BEGUN, "wait", batch(times_s=None)],
    "no numbers": [BEGUN, "wait", batch(start_s="0")],
    "a smaller memory": [BEGUN, "wait", "shrink", BATCH],
    "a failure": [BEGUN, "wait", {"kind": "failed", "what": "/srv/secret"}],
    "an unknown refusal": [
        BEGUN, "wait", {"kind": "refused", "ticket": TICKET, "error": "Exit", "facts": {}},
    ],
    "death": [BEGUN, "wait", BATCH, "die", END],
}  # fmt: skip


def test_an_honest_answer_is_believed(with_pool: WithPool, order: Order) -> None:
    _, batches = with_pool(lambda pool: read(pool, order(json.dumps(HONEST))), command=LYING)
    (one,) = batches
    assert one.frames.shape == (1, 4, 16, 16, 3)
    assert not one.frames.any()
    assert not one.frames.flags.writeable


@pytest.mark.parametrize("name", LIES)
def test_a_lie_ends_its_worker_and_that_video_alone(
    with_pool: WithPool, order: Order, name: str
) -> None:
    async def scenario(pool: DecodePool) -> None:
        with pytest.raises(DecodeCrashed) as crash:
            await read(pool, order(json.dumps(LIES[name])))
        assert "secret" not in crash.value.detail
        assert pool.running == 0
        await read(pool, order(json.dumps(HONEST)))

    with_pool(scenario, command=LYING)


def test_a_refusal_in_the_middle_is_one(with_pool: WithPool, order: Order) -> None:
    refusal = {"kind": "refused", "ticket": TICKET, "error": "Unsteady", "facts": {}}
    steps = [BEGUN, "wait", BATCH, "wait", refusal]

    async def scenario(pool: DecodePool) -> None:
        with pytest.raises(VideoError, match="damaged") as error:
            await read(pool, order(json.dumps(steps)))
        assert error.value.code == "video_undecodable"
        await read(pool, order(json.dumps(HONEST)))
        assert pool.stats.started == 1

    with_pool(scenario, command=LYING)


@pytest.mark.parametrize("steps", [["hang", END], [BEGUN, "wait", "hang", END]])
def test_a_worker_that_says_nothing_has_so_long_and_no_longer(
    with_pool: WithPool, order: Order, steps: list[Any]
) -> None:
    async def scenario(pool: DecodePool) -> None:
        with pytest.raises(DecodeTimeout):
            await read(pool, order(json.dumps(steps)))

    with_pool(scenario, command=LYING, options={"max_decode_s": 0.2, "max_timeline_s": 0.3})


def test_the_limit_grows_with_the_length_of_the_video_within_its_own() -> None:
    """Seconds of the video on top of those for a clip, and no more than for a timeline."""
    from service.decode.options import PoolOptions
    from service.decode.windows import limit_s

    options = PoolOptions(max_decode_s=8, max_timeline_s=100)
    assert [limit_s(length, options) for length in (0, 10, 91, 92, 93, 1e9)] == [
        8, 18, 99, 100, 100, 100,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "steps",
    [["hang", END], [BEGUN, "wait", "hang", END], [BEGUN, "wait", BATCH, "wait", "hang", END]],
)
def test_a_worker_that_does_not_stop_when_it_is_left_is_ended(
    with_pool: WithPool, order: Order, steps: list[Any]
) -> None:
    async def scenario(pool: DecodePool) -> None:
        async with aclosing(pool.windows(order(json.dumps(steps)), CUT)) as windows:
            if steps[0] == "hang":
                reading = asyncio.ensure_future(anext(windows))
                await until(lambda: pool.running == 1)
                reading.cancel()
                await asyncio.wait({reading})
            else:
                await anext(windows)
        await until(lambda: pool.running == 0)
        assert pool.stats.ended[Ending.CANCELLED] == 1
        await read(pool, order(json.dumps(HONEST)))

    with_pool(scenario, command=LYING, options={"cancel_grace_s": 0.1})


def test_a_video_that_is_left_has_its_place_until_its_worker_is_done(
    with_pool: WithPool, order: Order
) -> None:
    """Videos that are left one upon the other would have every worker."""
    steps = [BEGUN, "wait", "hang", END]

    async def scenario(pool: DecodePool) -> None:
        async with aclosing(pool.windows(order(json.dumps(steps)), CUT)) as windows:
            await anext(windows)
        waiting = pool.waiting
        reading = asyncio.ensure_future(read(pool, order(json.dumps(HONEST))))
        await until(lambda: pool.waiting == waiting + 1)
        for _ in range(20):
            await asyncio.sleep(0)
        assert pool.running == 1
        (worker,) = pool._queue._client_of
        worker.end(Ending.CANCELLED)
        await reading

    with_pool(scenario, workers=2, command=LYING, options={"cancel_grace_s": 3600})
