"""A server on a GPU whose memory runs out: asked over HTTP, it says so and stays up."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from export.bundle import open_bundle
from export.runtime import DeviceMemoryError, FakeRuntime
from service.settings import DEMO_BUNDLE
from tests.service.conftest import clip_bytes, running, until


class Card(FakeRuntime):
    """The fake under a GPU runtime's name, with memory for `fits` clips and `pairs` pairs."""

    def __init__(self) -> None:
        manifest = open_bundle(DEMO_BUNDLE).manifest
        super().__init__(manifest.inputs, dim=manifest.text_dim)
        self.name, self.prefers_batches = "onnxruntime-cuda", True
        self.fits, self.pairs = 8, 10**9
        self.free = threading.Event()  # while it is not set, the card is busy with a clip
        self.free.set()
        self.busy = False

    def encode_video(self, frames: Any) -> Any:
        self.busy = not self.free.is_set()
        self.free.wait()
        if len(frames) > self.fits:
            self._record("refused", frames)
            raise DeviceMemoryError(f"the GPU has no memory left for frames {frames.shape}")
        return super().encode_video(frames)

    def score(self, features: Any, text: Any) -> Any:
        if text.shape[0] * text.shape[1] > self.pairs:
            raise DeviceMemoryError(f"the GPU has no memory left for text {text.shape}")
        return super().score(features, text)


def test_a_clip_that_does_not_fit_is_503_and_the_next_is_answered() -> None:
    card = Card()
    with running(card) as server:
        card.fits = 0
        answer = server.classify(clip_bytes(1), labels=["a", "b"])
        assert answer.status_code == 503
        problem = answer.json()
        assert problem["code"] == "out_of_resources"
        assert "ask again" in problem["detail"]
        assert int(answer.headers["Retry-After"]) > 0
        card.fits = 8
        assert server.classify(clip_bytes(1), labels=["a", "b"]).status_code == 200
        assert server.client.get("/readyz").status_code == 200


def test_labels_that_do_not_fit_are_503_and_fewer_are_answered() -> None:
    card = Card()
    with running(card) as server:
        clip = server.classify(clip_bytes(2), labels=["a"]).json()["video_id"]
        card.pairs = 3
        assert server.classify(video_id=clip, labels=["a", "b", "c", "d"]).status_code == 503
        assert server.classify(video_id=clip, labels=["a", "b", "c"]).status_code == 200


@pytest.mark.parametrize("fits", [2, 8])
def test_requests_that_wait_together_run_together_and_all_are_answered(fits: int) -> None:
    card = Card()
    with running(card) as server, ThreadPoolExecutor(9) as threads:
        card.fits = fits
        lists = [[f"label {n}" for n in range(1 + size)] for size in range(6)]
        alone = [server.classify(clip_bytes(3 + i), labels=lists[i]).json() for i in range(6)]
        ids = [answer["video_id"] for answer in alone]
        card.free.clear()
        ahead = threads.submit(server.classify, clip_bytes(2), labels=["a"])
        until(lambda: card.busy)
        before = len(card.calls)
        asked = [
            threads.submit(server.classify, None, video_id=ids[i], labels=lists[i])
            for i in range(6)
        ]
        fresh = [threads.submit(server.classify, clip_bytes(20 + i), labels=["a"]) for i in (0, 1)]
        until(lambda: server.server.engine.thread.waiting >= 7)
        card.free.set()
        assert ahead.result().status_code == 200
        for answer, before_it in zip(asked, alone, strict=True):
            assert answer.result().json()["predictions"] == before_it["predictions"]
        assert [answer.result().status_code for answer in fresh] == [200, 200]
        scored = [shape for method, shape in card.calls[before:] if method == "score"]
        assert max(shape[0] for shape in scored) >= 4, "nothing was scored together"
