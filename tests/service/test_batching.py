"""Clips that gather while the thread is busy go together, and fail alone."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from export.runtime import DeviceMemoryError, Features
from service.inference.batching import Frames, Timed, VideoBatcher
from service.inference.inference_thread import InferenceThread
from tests.service.busy import Busy

BAD = 99


def clip(number: int, views: int = 1) -> Frames:
    return np.full((views, 2, 4, 4, 3), number, np.uint8)


class Encoder:
    """Answers each clip with its own number; a bad clip spoils its batch."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, frames: Frames) -> Features:
        self.batches.append(len(frames))
        numbers = frames[:, 0, 0, 0, :1].astype(np.float32)
        if (numbers == BAD).any():
            raise ArithmeticError("spoiled")
        return {"video": numbers, "context": np.repeat(numbers[:, None], 3, axis=1)}


async def gathered(
    max_clips: int, clips: list[Frames], leaving: tuple[int, ...] = ()
) -> tuple[list[Timed[Any] | BaseException], Encoder]:
    """Encode clips that all wait behind one busy call."""
    encoder, busy = Encoder(), Busy()
    batcher = VideoBatcher(busy.thread, encoder, max_clips)
    asked = [asyncio.create_task(batcher.encode(frames)) for frames in clips]
    await asyncio.sleep(0)
    for place in leaving:
        asked[place].cancel()
    await asyncio.sleep(0)
    await busy.let_go()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    await asyncio.to_thread(busy.thread.close)
    return answers, encoder


@pytest.mark.parametrize(
    ("max_clips", "batches"),
    [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (16, [5])],
)
def test_each_gets_its_own_whatever_the_batch(max_clips: int, batches: list[int]) -> None:
    answers, encoder = asyncio.run(gathered(max_clips, [clip(i) for i in range(5)]))
    assert encoder.batches == batches
    for number, answer in enumerate(answers):
        assert isinstance(answer, Timed)
        assert answer.answer["video"].tolist() == [[number]]
        assert answer.answer["context"].shape == (1, 3, 1)
        assert answer.answer["context"].base is None or max_clips == 1


def test_a_batch_is_filled_with_clips_of_the_clients_in_turn() -> None:
    batches: list[list[float]] = []

    def encode(frames: Frames) -> Features:
        features = Encoder()(frames)
        batches.append(features["video"][:, 0].tolist())
        return features

    async def run() -> None:
        busy = Busy()
        batcher = VideoBatcher(busy.thread, encode, 4)
        asked = [(number, "greedy") for number in range(6)] + [(10, "modest"), (11, "modest")]
        waiting = [asyncio.create_task(batcher.encode(clip(n), who)) for n, who in asked]
        await asyncio.sleep(0)
        await busy.let_go()
        await asyncio.gather(*waiting)
        await asyncio.to_thread(busy.thread.close)

    asyncio.run(run())
    assert batches == [[0, 10, 1, 11], [2, 3, 4, 5]]


def test_views_count_and_are_not_torn_apart() -> None:
    answers, encoder = asyncio.run(gathered(4, [clip(1, 3), clip(2, 2), clip(3, 6), clip(4)]))
    assert encoder.batches == [3, 2, 6, 1]
    views = [len(a.answer["video"]) for a in answers if isinstance(a, Timed)]
    assert views == [3, 2, 6, 1]


def test_a_bad_clip_fails_alone() -> None:
    answers, encoder = asyncio.run(gathered(8, [clip(1), clip(BAD), clip(3)]))
    assert encoder.batches == [3, 1, 1, 1]
    assert isinstance(answers[1], ArithmeticError)
    assert [a.answer["video"][0, 0] for a in answers if isinstance(a, Timed)] == [1, 3]


class SmallCard(Encoder):
    """Has memory for so many clips at a time."""

    def __call__(self, frames: Frames) -> Features:
        if len(frames) > 2:
            self.batches.append(len(frames))
            raise DeviceMemoryError("no memory left for frames")
        return super().__call__(frames)


def test_a_batch_that_does_not_fit_is_halved_and_later_ones_are_smaller() -> None:
    async def run() -> None:
        encoder, busy = SmallCard(), Busy()
        batcher = VideoBatcher(busy.thread, encoder, 16)
        first = [asyncio.create_task(batcher.encode(clip(i))) for i in range(5)]
        await asyncio.sleep(0)
        await busy.let_go()
        found = [ran.answer["video"][0, 0] for ran in await asyncio.gather(*first)]
        assert found == [0, 1, 2, 3, 4]
        assert encoder.batches == [5, 2, 3, 1, 2]
        encoder.batches.clear()
        second = [asyncio.create_task(batcher.encode(clip(i))) for i in range(4)]
        await asyncio.gather(*second)
        assert max(encoder.batches) <= 2
        with pytest.raises(DeviceMemoryError):  # one alone that never fits
            await batcher.encode(clip(9, views=3))
        assert (await batcher.encode(clip(7))).answer["video"] == 7
        await asyncio.to_thread(busy.thread.close)

    asyncio.run(run())


def test_who_has_left_is_not_encoded() -> None:
    answers, encoder = asyncio.run(gathered(2, [clip(i) for i in range(5)], leaving=(0, 2)))
    assert sum(encoder.batches) == 3
    kept = [a.answer["video"][0, 0] for a in answers if isinstance(a, Timed)]
    assert kept == [1, 3, 4]


def test_nobody_waits_for_a_thread_that_has_ended() -> None:
    async def run() -> None:
        thread = InferenceThread()
        thread.close()
        batcher = VideoBatcher(thread, Encoder(), 1)
        with pytest.raises(asyncio.CancelledError):
            await batcher.encode(clip(1))

    asyncio.run(run())


def test_the_thread_counts_its_failures_in_a_row() -> None:
    async def run() -> None:
        thread = InferenceThread()
        batcher = VideoBatcher(thread, Encoder(), 1)
        for count in (1, 2, 3):
            with pytest.raises(ArithmeticError):
                await batcher.encode(clip(BAD))
            assert thread.failing == count
        await batcher.encode(clip(1))
        # An answer is out before its call has ended.
        await asyncio.to_thread(thread.close)
        assert thread.failing == 0

    asyncio.run(run())
