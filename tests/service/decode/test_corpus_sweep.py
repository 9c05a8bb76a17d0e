"""The whole corpus of odd, broken and hostile files through one pool, good clips in between."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import pytest

from model.inputs import Clip, InputSpec, VideoError, decode_clip
from service.api.problems import STATUS
from service.contract.errors import ErrorCode
from service.decode import DecodePool, PoolOptions
from service.decode.answer_validation import REFUSALS
from service.decode.errors import DecodeTimeout
from tests.conftest import CorpusFile
from tests.service.decode.conftest import PATIENCE

SPEC = InputSpec.official(8, 112)
AT_ONCE, WORKERS = 8, 2
GROWTH_MIB = 300
MIB = 1 << 20
Outcome = Clip | VideoError


class MemoryWatch:
    """The largest growth of any one worker, looked at all the time.

    `fresh` is what a ready one holds, of a pool that was started just now; a worker that comes
    later is first seen half loaded.
    """

    def __init__(self, pool: DecodePool) -> None:
        self._pool = pool
        self.fresh = min(map(resident, pool.pids))
        self.largest = 0

    def look(self) -> None:
        for pid in self._pool.pids:
            with contextlib.suppress(psutil.Error):
                self.largest = max(self.largest, resident(pid) - self.fresh)

    async def run(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(0.01)


async def answer(pool: DecodePool, path: Path) -> tuple[int, Outcome]:
    try:
        clip = await pool.decode(path)
    except VideoError as error:
        return STATUS[cast(ErrorCode, error.code)], error
    return 200, clip


def out_of_time(outcome: Outcome) -> bool:
    return isinstance(outcome, DecodeTimeout)


def complaint(entry: CorpusFile, status: int, outcome: Outcome) -> str | None:
    """What is wrong with an answer by the manifest."""
    expect = entry.expect
    if status not in expect["http"]:
        return f"{status} {outcome}"
    if expect["outcome"] == "accept" and status != 200:
        return f"refused: {outcome}"
    if expect["outcome"] == "reject" and status == 200:
        return "taken"
    if isinstance(outcome, VideoError):
        if "/" not in outcome.detail:
            return None
        return f"a path in {outcome.detail!r}"
    frames = expect.get("frames")
    if frames is not None:
        off = abs(outcome.info.frames - frames)
        if off > expect.get("frames_tolerance", 0):
            return f"{outcome.info.frames} frames"
    return None


def sweep(
    corpus: list[CorpusFile], videos: dict[str, Path], rounds: int, options: PoolOptions
) -> None:
    """Every file `rounds` times, eight at a time, a good clip after every fourth."""

    async def main() -> tuple[Any, ...]:
        pool = DecodePool(WORKERS, SPEC, options=options)
        await pool.start()
        watch = MemoryWatch(pool)
        watching = asyncio.create_task(watch.run())
        gate = asyncio.Semaphore(AT_ONCE)
        wrong, stopped = [], []

        async def one(entry: CorpusFile) -> None:
            async with gate:
                status, outcome = await answer(pool, entry.path)
            if fault := complaint(entry, status, outcome):
                wrong.append(f"{entry.name}: {fault}")
            if out_of_time(outcome):
                stopped.append(entry)

        async def good(path: Path) -> None:
            async with gate:
                clip = await pool.decode(path)
            same = np.array_equal(clip.frames, quiet[path].frames)
            if not same or clip.info != quiet[path].info:
                wrong.append(f"{path.name}: another answer than in a quiet run")

        jobs = []
        for i, entry in enumerate(corpus * rounds):
            jobs.append(one(entry))
            if i % 4 == 0:
                jobs.append(good(clips[i // 4 % len(clips)]))
        await asyncio.gather(*jobs)
        alone = [(entry.name, (await answer(pool, entry.path))[1]) for entry in stopped]
        too_slow = [name for name, outcome in alone if out_of_time(outcome)]
        watching.cancel()
        left = [held - watch.fresh for held in map(resident, pool.pids)]
        stats, workers = pool.stats, len(pool.pids)
        await pool.stop()
        return wrong, stopped, too_slow, stats, workers, watch.largest, max(left)

    clips = sorted(videos.values())
    quiet = {}
    for path in clips:
        with path.open("rb") as file:
            quiet[path] = decode_clip(file, SPEC)
    wrong, stopped, too_slow, stats, workers, largest, left = asyncio.run(main())
    assert wrong == []
    assert stats.retried == stats.dropped == 0
    # No worker was lost to any file: each ended job is an answer. Where the machine had no time for
    # one beside the others, it was asked again with the machine to itself.
    assert too_slow == []
    assert not set(stats.ended) - {"memory", "jobs", "timeout", "stop"}, stats
    assert stats.ended["timeout"] == len(stopped), stats
    assert workers == WORKERS + 1
    assert largest <= GROWTH_MIB * MIB
    assert left <= 64 * MIB


def resident(pid: int) -> int:
    return psutil.Process(pid).memory_info().rss


def test_the_corpus_once(corpus: list[CorpusFile], videos: dict[str, Path]) -> None:
    sweep(corpus, videos, 1, PoolOptions(**PATIENCE))


@pytest.mark.long
def test_the_corpus_twenty_times(corpus: list[CorpusFile], videos: dict[str, Path]) -> None:
    sweep(corpus, videos, 20, PoolOptions(budget_s=3600))


def test_every_code_of_the_inputs_has_a_status() -> None:
    """A worker sends codes; one that the service does not know would hide what is wrong."""
    assert {kind.code for kind in REFUSALS.values()} <= set(STATUS)


BARS = InputSpec(num_frames=8, image_size=64, resize_short_side=64)
CELLS = 8


def bar_codes(clip: Clip) -> list[int] | None:
    """The number that each frame carries in its top eighth, black and white cells, from crops at
    the start and the end of the long side; None where the two do not cover it.
    """
    start, end = clip.frames[0], clip.frames[1]
    width = max(int(64 * clip.info.width / clip.info.height + 0.5), 64)
    if width > 128:
        return None
    last = (width - 64) // 2 * 2
    tall = max(int(64 * clip.info.height / clip.info.width + 0.5), 64)
    codes = []
    for left, right in zip(start, end, strict=True):
        whole = np.zeros((64, width, 3), dtype=np.uint8)
        whole[:, :64] = left
        if tall == 64:
            whole[:, last : last + 64] = right
        row = whole[tall // 16].mean(axis=-1)
        cells = row[((np.arange(CELLS) + 0.5) * width / CELLS).astype(int)] > 127
        codes.append(int("".join("01"[int(cell)] for cell in cells), 2))
    return codes


def test_sampled_frames_carry_their_numbers(corpus: list[CorpusFile]) -> None:
    """Every accepted file that numbers its frames: the eight are the right ones."""
    numbered = [e for e in corpus if (e.entry.get("barcode") or {}).get("sequential")]

    async def main() -> list[Clip | BaseException]:
        pool = DecodePool(WORKERS, BARS, options=PoolOptions(**PATIENCE))
        await pool.start()
        outcomes = await asyncio.gather(
            *(pool.decode(e.path, crops=3) for e in numbered), return_exceptions=True
        )
        await pool.stop()
        return outcomes

    checked = 0
    for entry, clip in zip(numbered, asyncio.run(main()), strict=True):
        if isinstance(clip, VideoError):
            assert entry.expect["outcome"] != "accept", (entry.name, clip)
            continue
        assert isinstance(clip, Clip), (entry.name, clip)
        codes, first, count = bar_codes(clip), entry.entry["barcode"]["first"], clip.info.frames
        if codes is not None:
            wanted = [(first + (2 * i + 1) * count // 16) % 256 for i in range(8)]
            assert codes == wanted, entry.name
            checked += 1
    assert checked > 60
