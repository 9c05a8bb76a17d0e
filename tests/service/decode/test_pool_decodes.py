"""What comes out of the pool is what decoding in this process gives, and costs no copy."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.inputs import (
    Clip,
    FrameRule,
    InputSpec,
    NotAVideo,
    RangeError,
    TooShort,
    VideoError,
    VideoLimits,
    decode_clip,
)
from model.inputs.windows import Cut
from service.decode import DecodePool, PoolOptions, clip_pool
from service.decode.frame_memory import FrameMemory
from tests.service.conftest import clip_bytes
from tests.service.decode.conftest import PATIENCE, Order, WithPool, open_files

SPEC = InputSpec.official(8, 112)


def same(clip: Clip, reference: Clip) -> None:
    assert np.array_equal(clip.frames, reference.frames)
    assert clip.info == reference.info


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"views": 3},
        {"crops": 3, "views": 2},
        {"start": 1.0, "end": 2.5},
        {"frame_rule": FrameRule.KEYFRAMES},
    ],
)
def test_same_as_in_this_process(
    with_pool: WithPool, videos: dict[str, Path], wanted: dict[str, Any]
) -> None:
    async def scenario(pool: DecodePool) -> None:
        for path in videos.values():
            with path.open("rb") as file:
                same(await pool.decode(path, **wanted), decode_clip(file, SPEC, **wanted))

    with_pool(scenario, command=None, spec=SPEC)


def test_a_descriptor_keeps_its_position_and_stays_open(
    with_pool: WithPool, videos: dict[str, Path]
) -> None:
    path = videos["arm_wrestling"]

    async def scenario(pool: DecodePool) -> None:
        with path.open("rb") as file:
            file.seek(1234)
            clip = await pool.decode(file.fileno())
            assert file.tell() == 1234
            same(clip, decode_clip(file, SPEC))

    with_pool(scenario, command=None, spec=SPEC)


def test_an_upload_that_lives_in_memory(with_pool: WithPool, videos: dict[str, Path]) -> None:
    async def scenario(pool: DecodePool) -> None:
        fd = os.memfd_create("upload", os.MFD_CLOEXEC)
        with os.fdopen(fd, "w+b") as file:
            file.write(videos["arm_wrestling"].read_bytes())
            file.flush()
            same(await pool.decode(file.fileno()), decode_clip(file, SPEC))

    with_pool(scenario, command=None, spec=SPEC)


@pytest.mark.parametrize(
    ("name", "wanted", "kind", "code"),
    [
        ("i_zeros_64k.mp4", {}, NotAVideo, "not_a_video"),
        ("v_h264_faststart.mp4", {"start": 900.0}, RangeError, "start_past_end"),
        ("v_h264_faststart.mp4", {"start": 0.001, "end": 0.002}, TooShort, "video_too_short"),
    ],
)
def test_refusals_keep_class_code_and_words(
    with_pool: WithPool,
    shared_dir: Path,
    name: str,
    wanted: dict[str, Any],
    kind: type[VideoError],
    code: str,
) -> None:
    path = shared_dir / "corpus" / name
    with path.open("rb") as file, pytest.raises(kind) as here:
        decode_clip(file, SPEC, **wanted)

    async def scenario(pool: DecodePool) -> None:
        with pytest.raises(kind) as there:
            await pool.decode(path, **wanted)
        assert there.value.code == here.value.code == code
        assert there.value.detail == here.value.detail
        assert pool.stats.refused == 1
        assert not pool.stats.ended

    with_pool(scenario, command=None, spec=SPEC)


@pytest.mark.parametrize("start", [1e9 + 1, 1e300])
def test_a_start_however_late_costs_no_worker(
    with_pool: WithPool, tmp_path: Path, start: float
) -> None:
    path = tmp_path / "clip"
    path.write_bytes(clip_bytes())

    async def scenario(pool: DecodePool) -> None:
        with pytest.raises(RangeError) as told:
            await pool.decode(path, start=start)
        assert f"{start:g}" in told.value.detail
        with pytest.raises(RangeError):
            async for _ in pool.windows(path, Cut(1, 1, 10), start=start):
                pass
        assert not pool.stats.ended

    with_pool(scenario, command=None, spec=SPEC)


def test_limits_hold_in_the_worker(videos: dict[str, Path]) -> None:
    async def main() -> None:
        pool = DecodePool(1, SPEC, VideoLimits(max_frames=10), options=PoolOptions(**PATIENCE))
        await pool.start()
        try:
            with pytest.raises(Exception, match="more than 10 frames"):
                await pool.decode(videos["arm_wrestling"])
        finally:
            await pool.stop()

    asyncio.run(main())


def test_frames_are_read_only_and_hold_no_shared_memory(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        clip = await pool.decode(order("fine"))
        assert not clip.frames.flags.writeable
        assert (clip.frames == 7).all()
        assert not any("memfd:frames" in name for name in open_files())
        assert "memfd:frames" not in Path("/proc/self/maps").read_text()

    with_pool(scenario)


@pytest.mark.parametrize(
    "wanted", [{"views": 0}, {"views": 11}, {"crops": 2}, {"start": float("nan")}]
)
def test_a_callers_mistake_is_no_video_error(
    with_pool: WithPool, order: Order, wanted: dict[str, Any]
) -> None:
    async def scenario(pool: DecodePool) -> None:
        with pytest.raises(ValueError, match=next(iter(wanted))):
            await pool.decode(order("fine"), **wanted)
        assert pool.stats.jobs == 0

    with_pool(scenario)


def test_an_upload_must_be_a_regular_file(with_pool: WithPool) -> None:
    async def scenario(pool: DecodePool) -> None:
        with pytest.raises(ValueError, match="regular file"):
            await pool.decode(Path("/dev/zero"))
        assert pool.running == 0

    with_pool(scenario)


def test_a_pool_works_on_uvloop(videos: dict[str, Path]) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        pool = DecodePool(1, SPEC, options=PoolOptions(**PATIENCE))
        await pool.start()
        try:
            assert (await pool.decode(videos["arm_wrestling"])).info.frames > 0
        finally:
            await pool.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@pytest.mark.parametrize(
    ("budget_s", "rule"), [(1e6, FrameRule.EXACT), (1e-9, FrameRule.KEYFRAMES)]
)
def test_by_auto_the_exact_rule_holds_where_its_estimated_cost_fits(
    with_pool: WithPool, videos: dict[str, Path], budget_s: float, rule: FrameRule
) -> None:
    path = videos["arm_wrestling"]

    async def scenario(pool: DecodePool) -> None:
        with path.open("rb") as file:
            expected = decode_clip(file, SPEC, frame_rule=rule)
        clip = await pool.decode(path, frame_rule="auto")
        same(clip, expected)
        assert clip.info.frame_rule is rule
        assert clip.work is not None
        assert expected.work is not None
        assert clip.work.seconds > 0
        assert clip.work.pictures == expected.work.pictures

    with_pool(scenario, command=None, spec=SPEC, options={"budget_s": budget_s})


def test_many_frames_are_copied_beside_the_event_loop(
    with_pool: WithPool, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clip that is given up meanwhile leaves its memory alone until the copy is made."""
    monkeypatch.setattr(clip_pool, "COPIED_IN_THREAD_FROM", 1)
    copy = FrameMemory.frames
    began, go_on = threading.Event(), threading.Event()
    made_in: list[threading.Thread] = []

    def held(self: FrameMemory) -> Any:
        made_in.append(threading.current_thread())
        began.set()
        go_on.wait()
        os.fstat(self.fd)  # still open
        return copy(self)

    monkeypatch.setattr(FrameMemory, "frames", held)

    async def scenario(pool: DecodePool) -> None:
        upload = order("fine")
        given_up = asyncio.create_task(pool.decode(upload))
        await asyncio.to_thread(began.wait)
        given_up.cancel()
        await asyncio.sleep(0)
        assert not given_up.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        clip = await pool.decode(upload)
        assert set(clip.frames.ravel()) == {7}
        assert threading.main_thread() not in made_in

    with_pool(scenario)


def test_a_worker_is_paid_for_as_long_as_a_client_has_it(tmp_path: Path) -> None:
    upload = tmp_path / "clip.mp4"
    upload.write_bytes(clip_bytes())
    paid: list[tuple[str, float]] = []

    async def main() -> None:
        pool = DecodePool(
            1,
            SPEC,
            options=PoolOptions(spares=0, **PATIENCE),
            charge=lambda client, seconds: paid.append((client, seconds)),
        )
        await pool.start()
        began = time.monotonic()
        await pool.decode(upload, client="alice")
        lasted = time.monotonic() - began
        await pool.stop()
        ((client, seconds),) = paid
        assert client == "alice"
        assert 0 < seconds <= lasted

    asyncio.run(main())
