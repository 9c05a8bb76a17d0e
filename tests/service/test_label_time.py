"""What a list of labels takes is known before the first of them is encoded."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from export.bundle import open_bundle
from service.contract.errors import ApiError
from service.inference.inference_thread import InferenceThread
from service.inference.text_batching import TextEncoder
from service.settings import DEMO_BUNDLE
from service.sharing.fair_threads import FairThreads
from tests.service.conftest import clip_bytes, fake_runtime, running

LABELS = [f"a cat of the number {n}" for n in range(1000)]


@contextlib.contextmanager
def text_encoder(limit_s: float) -> Iterator[TextEncoder]:
    bundle, runtime = open_bundle(DEMO_BUNDLE), fake_runtime()
    thread, beside = InferenceThread(), FairThreads(1, "beside")
    spec = bundle.manifest.inputs
    yield TextEncoder(runtime, bundle.tokenizer(), spec, thread, limit_s, beside)
    thread.close()
    beside.close()


def test_a_start_measures_what_a_text_takes() -> None:
    with text_encoder(1e-9) as encoder:
        with encoder.taken_on(LABELS, "somebody"):  # nothing is known yet
            pass
        asyncio.run(encoder.measure())
        with (
            pytest.raises(ApiError, match="1000 of these labels are new here") as refusal,
            encoder.taken_on(LABELS, "somebody"),
        ):
            pass
        assert refusal.value.code == "too_many_labels"
        with encoder.taken_on([], "somebody"), encoder.taken_on(LABELS, ""):
            pass  # the server's own may take longer


def test_one_client_has_half_of_the_time_for_labels_and_less_beside_others() -> None:
    # Five tokens in each of these texts, and 640 in a list: ten seconds.
    lists = ([f"label {n:03} of {number}" for n in range(128)] for number in itertools.count(10))
    with text_encoder(60) as encoder:
        encoder._seconds_per_token = 1 / 64

        def ask(client: str, texts: Sequence[str] | None = None) -> None:
            held.enter_context(encoder.taken_on(next(lists) if texts is None else texts, client))

        with contextlib.ExitStack() as held:
            mine = [next(lists) for _ in range(3)]
            for texts in mine:
                ask("greedy", texts)
            with pytest.raises(ApiError, match="new labels of yours take 30 s already") as refusal:
                ask("greedy")
            assert (refusal.value.code, refusal.value.retry_after_s) == ("queue_full", 30)
            for _ in range(2):
                ask("modest")  # 20 s of 60 for each of two
            with pytest.raises(ApiError, match="of yours take 20 s"):
                ask("modest")
            ask("third")  # whoever else has taken it all: his turn comes first
            ask("greedy", ())
            for texts in mine:  # nothing of them is new
                ask("greedy", texts)
        with pytest.raises(ApiError, match="a request may take 30 s of the network"):
            ask("greedy", [text for _ in range(4) for text in next(lists)])
        assert not encoder._tokens.held


def test_a_list_that_several_questions_have_counts_until_the_last_has_ended() -> None:
    with text_encoder(60) as encoder:
        one, other = contextlib.ExitStack(), contextlib.ExitStack()
        one.enter_context(encoder.taken_on(LABELS[:2], "somebody"))
        other.enter_context(encoder.taken_on(LABELS[1:3], "somebody"))
        assert encoder._tokens.held == encoder._count(LABELS[:3])
        one.close()
        assert encoder._tokens.held == encoder._count(LABELS[1:3])
        other.close()
        assert not encoder._tokens.held
        assert not encoder._taken_on


def test_a_start_up_list_may_take_as_long_as_it_takes(tmp_path: Path) -> None:
    runtime = fake_runtime()
    warm = tmp_path / "labels.txt"
    warm.write_text("\n".join(LABELS))
    encode_text = runtime.encode_text

    def encode_slowly(token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        time.sleep(0.01)
        return encode_text(token_ids)

    runtime.encode_text = encode_slowly  # type: ignore[method-assign]
    with running(runtime, warm_labels=warm, request_timeout_s=0.02) as server:
        assert len(server.server.engine.labels.known) == len(LABELS)


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
