"""What a list of labels takes is known before the first of them is encoded."""

from __future__ import annotations

import asyncio

import pytest

from export.bundle import open_bundle
from service.contract.errors import ApiError
from service.inference.inference_thread import InferenceThread
from service.inference.text_batching import TextEncoder
from service.settings import DEMO_BUNDLE
from service.sharing.fair_threads import FairThreads
from tests.service.conftest import clip_bytes, fake_runtime, running

LABELS = [f"a cat of the number {n}" for n in range(1000)]


def test_a_start_measures_what_a_text_takes() -> None:
    bundle, runtime = open_bundle(DEMO_BUNDLE), fake_runtime()
    thread, beside = InferenceThread(), FairThreads(1, "beside")
    spec = bundle.manifest.inputs
    encoder = TextEncoder(runtime, bundle.tokenizer(), spec, thread, 1e-9, beside)
    encoder.check_time(LABELS)  # nothing is known yet
    asyncio.run(encoder.measure())
    with pytest.raises(ApiError, match="1000 of these labels are new here") as refusal:
        encoder.check_time(LABELS)
    assert refusal.value.code == "too_many_labels"
    encoder.check_time([])
    thread.close()
    beside.close()


def test_what_is_hopeless_is_refused_before_any_of_it_is_computed() -> None:
    runtime = fake_runtime()
    with running(runtime) as server:
        texts = server.server.engine.labels._texts
        assert texts._at_start > 0
        known = server.classify(clip_bytes(), labels=["a"]).json()["video_id"]
        texts._at_start, texts._seconds_per_token = 3600.0, 0.0
        encoded = [name for name, _ in runtime.calls].count("encode_text")
        refused = server.classify(None, video_id=known, labels=f'["{LABELS[0]}", "{LABELS[1]}"]')
        assert (refused.status_code, refused.json()["code"]) == (422, "too_many_labels")
        assert [name for name, _ in runtime.calls].count("encode_text") == encoded
