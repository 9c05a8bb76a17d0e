"""What it costs to decode in a confined process instead of in this one.

    python -m benchmarks.decode_pool

One clip of 10 s, 340x256, 30 frames a second (H.264), eight frames sampled. Contestants take turns
in every round. Goal: the pool adds at most 5 ms to the median. The frames must be the same.

Then what a clip takes of a core, by both frame rules, small and large: processor time of the worker
that decodes it, which says how many cores feed a card (docs/gpu.md).
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil

from benchmarks.lib.films import Film
from benchmarks.lib.timing import as_row, publish, take_turns, timing_of
from model.inputs import FrameRule, InputSpec, NotAVideo, decode_clip
from service.decode import DecodePool, PoolOptions

SPEC = InputSpec.official(8)
SECONDS, RATE, WIDTH, HEIGHT = 10, 30, 340, 256
ROUNDS, GOAL_MS, AT_ONCE = 40, 5.0, 16
MIB = 1 << 20
FILMS = (
    Film("H.264", 340, 256, 30, 250, 10),
    Film("H.264", 1920, 1080, 30, 30, 2, 5),
    Film("H.264", 3840, 2160, 30, 30, 2, 5),
    Film("HEVC 10 bit", 3840, 2160, 60, 60, 2, 5),
)
CLIPS_FOR_A_CORE = 5
PATIENT = PoolOptions(max_decode_s=600)


def main() -> int:
    """Measure; the exit status says whether the goal was met."""
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        clip, text = make_clip(Path(folder) / "clip.mp4"), Path(folder) / "text"
        text.write_text("no video at all")
        pools = {count: DecodePool(count, SPEC, options=PATIENT) for count in (1, 2)}
        started = time.perf_counter()
        for pool in pools.values():
            runner.run(pool.start())
        start_s = (time.perf_counter() - started) / sum(len(p.pids) for p in pools.values())
        try:
            rows = measure(runner, pools, clip, text)
            rows += [
                runner.run(core_time(pools[1], film, rule)) for film in FILMS for rule in FrameRule
            ]
            resident = [psutil.Process(pid).memory_full_info() for pid in pools[2].pids]
            replace_s = runner.run(time_a_replacement(pools[2]))
            cpu_s = {count: runner.run(processor_time(clip, count)) for count in (500, 1)}
        finally:
            for pool in pools.values():
                runner.run(pool.stop())
    added = rows[1]["median_ms"] - rows[0]["median_ms"]
    publish(
        "decode_pool",
        "python -m benchmarks.decode_pool",
        rows,
        clip=f"{SECONDS} s, {WIDTH}x{HEIGHT}, {RATE} frames/s, H.264, {SPEC.num_frames} sampled",
        pool_adds_ms=round(added, 2),
        goal_ms=GOAL_MS,
        cpu_s_per_clip_one_worker=round(cpu_s[500], 3),
        cpu_s_per_clip_fresh_worker_each=round(cpu_s[1], 3),
        worker_start_s=round(start_s, 3),
        worker_replaced_after_s=round(replace_s, 3),
        worker_resident_mib=round(max(m.rss for m in resident) / MIB, 1),
        worker_unshared_mib=round(max(m.uss for m in resident) / MIB, 1),
        sandbox=pools[2].sandbox,
    )
    return int(added > GOAL_MS)


def make_clip(path: Path) -> Path:
    """Encode moving shapes with noise, as hard to decode as a filmed clip of that size."""
    random = np.random.default_rng(0)
    grain = random.integers(0, 24, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for i in range(SECONDS * RATE):
            picture = np.roll(grain, i, axis=1).astype(np.uint16)
            picture[:, 3 * i % WIDTH :] += 100
            frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def measure(
    runner: asyncio.Runner, pools: dict[int, DecodePool], clip: Path, text: Path
) -> list[dict[str, Any]]:
    """Measure the same clip in this process, through a pool, and sixteen at a time."""

    def here() -> Any:
        with clip.open("rb", buffering=0) as source:
            return decode_clip(source, SPEC)

    def there() -> Any:
        return runner.run(pools[1].decode(clip))

    async def many(pool: DecodePool) -> None:
        await asyncio.gather(*(pool.decode(clip) for _ in range(AT_ONCE)))

    async def refusal() -> None:
        try:
            await pools[1].decode(text)
        except NotAVideo:
            return
        raise RuntimeError("text passed for a video")

    np.testing.assert_array_equal(here().frames, there().frames)

    def run_many(pool: DecodePool) -> object:
        return runner.run(many(pool))

    single = take_turns(
        {"in this process": here, "pool": there, "pool, refused": lambda: runner.run(refusal())},
        ROUNDS,
    )
    batch = take_turns(
        {f"{AT_ONCE} at once, {n} workers": partial(run_many, p) for n, p in pools.items()},
        ROUNDS // 4,
    )
    return [as_row(name, timing) for name, timing in (single | batch).items()]


async def time_a_replacement(pool: DecodePool) -> float:
    """Measure the seconds from the death of a worker until as many are ready as before."""
    workers = len(pool.pids)
    started, before = time.perf_counter(), pool.stats.started
    psutil.Process(pool.pids[0]).kill()
    while pool.stats.started == before or pool.ready < workers:
        await asyncio.sleep(0.001)
    return time.perf_counter() - started


async def core_time(pool: DecodePool, film: Film, rule: FrameRule) -> dict[str, Any]:
    """Measure what a clip takes of a core in a pool of one worker and its spare."""
    path, seconds = film.path(), []

    def spent() -> float:
        # The clocks of other processes' processor time, as clock_getcpuclockid(3) makes them.
        return sum(time.clock_gettime((~pid << 3) | 2) for pid in pool.pids)

    for _ in range(CLIPS_FOR_A_CORE + 1):
        before = spent()
        await pool.decode(path, frame_rule=rule.value)
        seconds.append(spent() - before)
    return as_row(f"{film.name}, {rule}: of a core", timing_of(seconds[1:]))


async def processor_time(clip: Path, clips_per_worker: int) -> float:
    """Return the seconds of processor time that a clip costs, starts of workers included."""
    options = PoolOptions(spares=0, jobs_per_worker=clips_per_worker)
    pool = DecodePool(1, SPEC, options=options)
    await pool.start()
    started = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = psutil.Process(pool.pids[0]).cpu_times()
    for _ in range(AT_ONCE):
        await pool.decode(clip)
    await pool.stop()
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = ended.ru_utime + ended.ru_stime - started.ru_utime - started.ru_stime
    # The first worker was started before, and is counted where it ends.
    return (spent - own.user - own.system) / AT_ONCE


if __name__ == "__main__":
    sys.exit(main())
