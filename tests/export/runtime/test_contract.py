"""The contract that every runtime keeps, the fake as well as the real ones.

Those of a GPU run on stand-ins for its libraries, which compute on the processor: what is held here
is our side of them, not theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest

from export.bundle import Bundle
from export.runtime import Runtime, RuntimeOptions, join_features, open_runtime, split_features
from export.runtime.contract import PAIRS_PER_RUN
from tests.export.runtime.gpu_standins import card

RUNTIMES = ["onnxruntime-cpu", "openvino", "fake"]
GPU_RUNTIMES = ["onnxruntime-cuda", "onnxruntime-tensorrt", "tensorrt"]


@contextmanager
def opened(bundle: Bundle, engines_bundle: Bundle, name: str) -> Iterator[Runtime]:
    """A runtime; where it needs a card, on the stand-in for one."""
    with card() if name in GPU_RUNTIMES else nullcontext():
        runtime = open_runtime(
            engines_bundle if name == "tensorrt" else bundle,
            name,
            options=RuntimeOptions(threads=1),
        )
        yield runtime
        runtime.close()


@pytest.fixture(scope="module", params=RUNTIMES + GPU_RUNTIMES)
def runtime(
    request: pytest.FixtureRequest, tiny_bundle: Bundle, engines_bundle: Bundle
) -> Iterator[Runtime]:
    with opened(tiny_bundle, engines_bundle, request.param) as runtime:
        yield runtime


def clips(bundle: Bundle, count: int) -> np.ndarray:
    spec = bundle.manifest.inputs
    shape = (count, spec.num_frames, spec.image_size, spec.image_size, 3)
    return np.random.default_rng(count).integers(0, 256, shape, dtype=np.uint8)


def tokens(bundle: Bundle, texts: list[str]) -> np.ndarray:
    return bundle.tokenizer().encode(texts, bundle.manifest.inputs.context_length)


def pairs(text: np.ndarray, count: int) -> np.ndarray:
    return np.broadcast_to(text, (count, *text.shape))


def test_says_what_it_is(runtime: Runtime) -> None:
    assert runtime.name in RUNTIMES + GPU_RUNTIMES
    assert runtime.precision == "fp32"
    assert runtime.selection


@pytest.mark.parametrize("count", [1, 3])
def test_shapes_and_types(runtime: Runtime, tiny_bundle: Bundle, count: int) -> None:
    dim = tiny_bundle.manifest.text_dim
    features = runtime.encode_video(clips(tiny_bundle, count))
    text = runtime.encode_text(tokens(tiny_bundle, ["swim", "ride a bike", "run"]))
    logits = runtime.score(features, pairs(text, count))
    assert features["video"].shape == (count, dim)
    assert features["context"].shape[::2] == (count, dim)
    assert (text.shape, logits.shape) == ((3, dim), (count, 3))
    for array in (*features.values(), text, logits):
        assert array.dtype == np.float32
        assert np.isfinite(array).all()


def test_deterministic(runtime: Runtime, tiny_bundle: Bundle) -> None:
    frames = clips(tiny_bundle, 2)
    first, second = runtime.encode_video(frames), runtime.encode_video(frames.copy())
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


def test_every_frame_and_every_token_counts(runtime: Runtime, tiny_bundle: Bundle) -> None:
    frames = clips(tiny_bundle, 1)
    before = runtime.encode_video(frames)["video"]
    for i in range(frames.shape[1]):
        changed = frames.copy()
        changed[:, i] = 255 - changed[:, i]
        assert np.abs(runtime.encode_video(changed)["video"] - before).max() > 1e-3
    ids = tokens(tiny_bundle, ["ride a bike"])
    before = runtime.encode_text(ids)
    for i in range(1, ids.shape[1] - 1):
        changed = ids.copy()
        changed[:, i] += 1
        assert np.abs(runtime.encode_text(changed) - before).max() > 1e-3


def test_features_decide_the_score(runtime: Runtime, tiny_bundle: Bundle) -> None:
    features = runtime.encode_video(clips(tiny_bundle, 1))
    text = runtime.encode_text(tokens(tiny_bundle, ["swim", "run"]))[None]
    before = runtime.score(features, text)
    for name, value in features.items():
        other = {**features, name: value[:, ::-1].copy() if value.ndim == 3 else -value}
        if name == "context":
            other[name] = other[name] * np.linspace(-1, 1, value.shape[1])[:, None].astype("f4")
        assert np.abs(runtime.score(other, text) - before).max() > 1e-3, name


def test_a_pair_does_not_feel_its_neighbours(runtime: Runtime, tiny_bundle: Bundle) -> None:
    frames = clips(tiny_bundle, 3)
    ids = tokens(tiny_bundle, ["swim", "ride a bike", "kick the ball", "run"])
    features = runtime.encode_video(frames)
    text = runtime.encode_text(ids)
    together = runtime.score(features, pairs(text, 3))
    for b in range(3):
        alone = runtime.encode_video(frames[b : b + 1])
        for k in range(4):
            label = runtime.encode_text(ids[k : k + 1])
            logit = runtime.score(alone, label[None])
            np.testing.assert_allclose(logit[0, 0], together[b, k], atol=2e-4)


def test_label_lists_may_differ_per_clip(runtime: Runtime, tiny_bundle: Bundle) -> None:
    features = runtime.encode_video(clips(tiny_bundle, 2))
    text = runtime.encode_text(tokens(tiny_bundle, ["swim", "run", "jump", "dig"]))
    lists = np.stack([text[:2], text[2:]])
    logits = runtime.score(features, lists)
    all_pairs = runtime.score(features, pairs(text, 2))
    np.testing.assert_allclose(logits, [all_pairs[0, :2], all_pairs[1, 2:]], atol=2e-4)


def test_padding_does_not_count(runtime: Runtime, tiny_bundle: Bundle) -> None:
    ids = tokens(tiny_bundle, ["swim", "ride a bike"])
    longer = np.pad(ids, ((0, 0), (0, 10)))
    np.testing.assert_allclose(
        runtime.encode_text(ids), runtime.encode_text(longer), rtol=1e-4, atol=1e-4
    )


def test_long_label_lists_are_cut_exactly(runtime: Runtime, tiny_bundle: Bundle) -> None:
    features = runtime.encode_video(clips(tiny_bundle, 2))
    count = PAIRS_PER_RUN + 7
    text = np.random.default_rng(0).standard_normal((count, tiny_bundle.manifest.text_dim))
    both = pairs(text.astype(np.float32), 2)
    logits = runtime.score(features, both)
    for chosen in (0, PAIRS_PER_RUN // 2 - 1, PAIRS_PER_RUN // 2, count - 1):
        one = runtime.score(features, both[:, chosen : chosen + 1])
        np.testing.assert_allclose(logits[:, chosen : chosen + 1], one, atol=2e-4)


def test_calls_from_many_threads_keep_their_answers(runtime: Runtime, tiny_bundle: Bundle) -> None:
    frames = clips(tiny_bundle, 8)
    text = runtime.encode_text(tokens(tiny_bundle, ["swim", "run"]))[None]

    def logits(i: int) -> np.ndarray:
        return runtime.score(runtime.encode_video(frames[i : i + 1]), text)

    alone = [logits(i) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(logits, list(range(8)) * 4))
    for i, answer in enumerate(together):
        np.testing.assert_allclose(answer, alone[i % 8], atol=2e-4)


def test_wrong_frames_are_refused(runtime: Runtime, tiny_bundle: Bundle) -> None:
    good = clips(tiny_bundle, 1)
    bad = [good[:, :-1], good[:, :1], good[0], good[..., :2], good.astype(np.float32), good[:0]]
    for frames in bad:
        with pytest.raises(ValueError, match=r"frames must be uint8 \(B, 4, 32, 32, 3\)"):
            runtime.encode_video(frames)


def test_wrong_tokens_are_refused(runtime: Runtime) -> None:
    bad: list[Any] = [np.ones(3, np.int64), np.ones((2, 3), np.int32), np.ones((0, 3), np.int64)]
    for ids in bad:
        with pytest.raises(ValueError, match="token_ids must be int64"):
            runtime.encode_text(ids)
    with pytest.raises(ValueError, match="at most 48"):
        runtime.encode_text(np.ones((1, 49), np.int64))


def test_wrong_pairs_are_refused(runtime: Runtime, tiny_bundle: Bundle) -> None:
    dim = tiny_bundle.manifest.text_dim
    features = runtime.encode_video(clips(tiny_bundle, 2))
    with pytest.raises(ValueError, match="text must be float32"):
        runtime.score(features, np.zeros((2, dim), np.float32))
    with pytest.raises(ValueError, match="text is for 3 clips"):
        runtime.score(features, np.zeros((3, 1, dim), np.float32))
    with pytest.raises(ValueError, match="features lack video"):
        runtime.score({"context": features["context"]}, np.zeros((2, 1, dim), np.float32))


@pytest.mark.parametrize("name", RUNTIMES + GPU_RUNTIMES)
def test_warms_up_and_is_refused_after_close(
    tiny_bundle: Bundle, engines_bundle: Bundle, name: str
) -> None:
    with opened(tiny_bundle, engines_bundle, name) as runtime:
        runtime.warm_up()
        runtime.close()
        with pytest.raises(ValueError, match="closed"):
            runtime.encode_video(clips(tiny_bundle, 1))
        with pytest.raises(ValueError, match="closed"):
            runtime.encode_text(np.ones((1, 2), np.int64))


def test_features_of_several_calls_are_split_and_joined(
    runtime: Runtime, tiny_bundle: Bundle
) -> None:
    features = runtime.encode_video(clips(tiny_bundle, 4))
    text = runtime.encode_text(tokens(tiny_bundle, ["swim", "run"]))
    together = runtime.score(features, pairs(text, 4))
    first, second = split_features(features, [1, 3])
    assert [len(part["video"]) for part in (first, second)] == [1, 3]
    turned = join_features([second, first])
    np.testing.assert_allclose(
        runtime.score(turned, pairs(text, 4)), np.roll(together, -1, axis=0), atol=2e-4
    )
    # What was looked at, kept, or has been elsewhere in between is as good.
    kept = join_features([dict(second), first])
    np.testing.assert_array_equal(kept["video"], turned["video"])
    np.testing.assert_allclose(
        runtime.score(kept, pairs(text, 4)), np.roll(together, -1, axis=0), atol=2e-4
    )


def test_more_clips_than_a_run_takes_are_scored_in_several(
    runtime: Runtime, tiny_bundle: Bundle
) -> None:
    one = runtime.encode_video(clips(tiny_bundle, 1))
    many = {name: np.repeat(value, 70, axis=0) for name, value in one.items()}
    text = runtime.encode_text(tokens(tiny_bundle, ["swim", "run"]))
    logits = runtime.score(many, pairs(text, 70))
    np.testing.assert_allclose(logits, np.repeat(logits[:1], 70, axis=0), atol=2e-4)


def test_only_a_gpu_prefers_batches(runtime: Runtime) -> None:
    assert runtime.prefers_batches is (runtime.name in GPU_RUNTIMES)
