"""Label lists of different requests in one batch: each gets its own logits, whatever the others."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from export.bundle import open_bundle
from export.runtime import DeviceMemoryError, FakeRuntime
from export.runtime.contract import PAIRS_PER_RUN
from service.cache.clips import EncodedClip
from service.inference.batching import VideoBatcher
from service.inference.inference_thread import InferenceThread
from service.inference.score_batching import ScoreBatcher
from service.inference.stage_timer import StageTimer
from service.settings import DEMO_BUNDLE
from tests.service.busy import Busy
from tests.service.conftest import fake_runtime, running

BAD = 13.0
DIM = 8
Job = tuple[dict[str, np.ndarray], np.ndarray]


class Scorer(FakeRuntime):
    """The fake, which spoils a batch that holds a bad list, and has memory for so many pairs."""

    def __init__(self, memory: int = 10**9) -> None:
        super().__init__(open_bundle(DEMO_BUNDLE).manifest.inputs, dim=DIM)
        self.memory = memory

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [shape[:2] for _, shape in self.calls]

    def score(self, features: Any, text: Any) -> Any:
        if text.shape[0] * text.shape[1] > self.memory:
            self._record("score", text)
            raise DeviceMemoryError("no memory left")
        if (text == BAD).any():
            self._record("score", text)
            raise ArithmeticError("spoiled")
        return super().score(features, text)


def job(seed: int, labels: int, views: int = 1) -> Job:
    drawn = np.random.default_rng(seed)
    sizes = {"video": (views, DIM), "context": (views, 4, DIM)}
    features = {n: drawn.standard_normal(s, dtype=np.float32) for n, s in sizes.items()}
    return features, drawn.standard_normal((labels, DIM), dtype=np.float32)


def black_clip() -> np.ndarray:
    spec = open_bundle(DEMO_BUNDLE).manifest.inputs
    return np.zeros((1, spec.num_frames, spec.image_size, spec.image_size, 3), np.uint8)


async def scored(batcher: ScoreBatcher, one: Job) -> np.ndarray:
    features, labels = one
    return (await batcher.score(features, len(features["video"]), labels)).answer


async def gathered(jobs: list[Job], runtime: Scorer, max_pairs: int) -> list[Any]:
    """Score lists that all wait behind one busy call."""
    busy = Busy()
    batcher = ScoreBatcher(busy.thread, runtime, max_pairs)
    asked = [asyncio.create_task(scored(batcher, one)) for one in jobs]
    await asyncio.sleep(0)
    await busy.let_go()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    await asyncio.to_thread(busy.thread.close)
    return answers


def alone(one: Job) -> np.ndarray:
    features, labels = one
    views = len(features["video"])
    return Scorer().score(features, np.broadcast_to(labels, (views, *labels.shape)))


@pytest.mark.parametrize(
    ("max_pairs", "batches"),
    [
        (1, [(1, 3), (2, 1), (1, 5), (1, 2)]),
        (15, [(3, 3), (2, 5)]),
        (100, [(5, 5)]),
    ],
)
def test_lists_of_any_length_get_their_own(max_pairs: int, batches: list[tuple[int, int]]) -> None:
    jobs = [job(1, 3), job(2, 1, views=2), job(3, 5), job(4, 2)]
    runtime = Scorer()
    answers = asyncio.run(gathered(jobs, runtime, max_pairs))
    assert runtime.shapes == batches
    for one, answer in zip(jobs, answers, strict=True):
        np.testing.assert_allclose(answer, alone(one), rtol=1e-5)


def test_a_bad_list_fails_alone() -> None:
    bad = job(2, 4)
    bad[1][0] = BAD
    jobs = [job(1, 3), bad, job(3, 5)]
    answers = asyncio.run(gathered(jobs, Scorer(), 100))
    assert isinstance(answers[1], ArithmeticError)
    for place in (0, 2):
        np.testing.assert_allclose(answers[place], alone(jobs[place]), rtol=1e-5)


def test_a_batch_that_does_not_fit_is_halved_and_later_ones_are_smaller() -> None:
    jobs = [job(number, 4) for number in range(8)]
    runtime = Scorer(memory=10)
    answers = asyncio.run(gathered(jobs, runtime, 1000))
    assert runtime.shapes == [(8, 4), (4, 4), (2, 4), (2, 4), (4, 4), (2, 4), (2, 4)]
    for one, answer in zip(jobs, answers, strict=True):
        np.testing.assert_allclose(answer, alone(one), rtol=1e-5)


def test_what_never_fits_fails_alone() -> None:
    answers = asyncio.run(gathered([job(1, 20), job(2, 2)], Scorer(memory=10), 1000))
    assert isinstance(answers[0], DeviceMemoryError)
    assert answers[1].shape == (1, 2)


def test_a_clip_that_was_encoded_is_scored_before_others_are_encoded() -> None:
    async def run() -> list[str]:
        busy, runtime = Busy(), Scorer()
        scores = ScoreBatcher(busy.thread, runtime, 1)
        clips = VideoBatcher(busy.thread, runtime.encode_video, 1)
        frames = black_clip()
        waiting = [asyncio.create_task(clips.encode(frames, who)) for who in ("a", "b", "a")]
        await asyncio.sleep(0)
        features, labels = job(1, 3)
        first = asyncio.create_task(scores.score(features, 1, labels, "a", first=True))
        while busy.thread.waiting < 5:  # what holds it, the clips, and the list
            await asyncio.sleep(0)
        await busy.let_go()
        await asyncio.gather(first, *waiting)
        await asyncio.to_thread(busy.thread.close)
        return [name for name, _ in runtime.calls]

    assert asyncio.run(run()) == ["score", "encode_video", "encode_video", "encode_video"]


def test_only_a_clip_just_encoded_is_scored_before_others_and_by_a_short_list(
    clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    with running(fake_runtime()) as server:
        engine = server.server.engine
        scorer = engine.labels._scores
        score = scorer.score

        def noted(*arguments: Any, first: bool) -> Any:
            asked.append(first)
            return score(*arguments, first=first)

        monkeypatch.setattr(scorer, "score", noted)
        known = server.classify(clip, labels=["a", "b"]).json()["video_id"]
        server.classify(None, video_id=known, labels=["a", "b"])
        assert asked == [True, False]
        features = engine.runtime.encode_video(black_clip())
        held = EncodedClip(features, None)  # type: ignore[arg-type]
        vectors = np.zeros((PAIRS_PER_RUN + 1, engine.bundle.manifest.text_dim), np.float32)
        timer = StageTimer(lambda *_: None)
        asyncio.run(engine.labels.score(held, vectors, timer, "", first=True))
    assert asked == [True, False, False, False]


def test_a_long_list_starves_nobody() -> None:
    """Ten parts of one list, and short lists that come while the first is being scored."""
    done: list[str] = []

    async def run() -> None:
        thread, runtime = InferenceThread(), Scorer()
        batcher = ScoreBatcher(thread, runtime, 100)

        async def long() -> None:
            features, labels = job(1, 1000)
            for first in range(0, 1000, 100):
                await batcher.score(features, 1, labels[first : first + 100])
            done.append("long")

        async def short(seed: int) -> None:
            await scored(batcher, job(seed, 5))
            done.append("short")

        await asyncio.gather(long(), *(short(seed) for seed in range(2, 22)))
        # All short lists go together, behind one part of the long one.
        assert sorted(runtime.shapes, reverse=True)[0] == (20, 5)
        assert runtime.shapes.index((20, 5)) <= 1
        await asyncio.to_thread(thread.close)

    asyncio.run(run())
    assert done == ["short"] * 20 + ["long"]
