"""Each term of the formula of memory (docs/reliability.md), driven to its bound: bytes counted."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import random
import socket
import tracemalloc
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import pytest

from export.bundle import LabelSet, open_bundle
from export.bundle.calibration import Contrast, Logistic
from export.runtime.cpus import available_cpus
from model.inputs import Tokenizer, VideoInfo, label_key, label_prompts
from service.api.asking import body_limits
from service.api.body import read_body
from service.api.json_stream import write_answer
from service.api.request import parse_classify
from service.api.timeline_route import TIMELINE
from service.cache.clips import EncodedClip, FeatureCache
from service.cache.labels import LabelCache
from service.cache.redis.write_behind import (
    ENTRIES_PER_WRITE,
    MAX_WAITING_BYTES,
    Entry,
    WriteBehind,
)
from service.contract.answer import CacheUse, Classification, ModelName, Prediction, Timing
from service.contract.body import ClassifyBody
from service.contract.embeddings import EmbeddingQuestion
from service.contract.errors import ApiError
from service.contract.request import Question
from service.contract.timeline import (
    EndLine,
    FactsLine,
    TimelineLine,
    TimelineQuestion,
    TimelineVideo,
    WindowLine,
    joined,
)
from service.decode.options import PoolOptions
from service.decode.windows import DecodedWindows
from service.inference.embeddings import embeddings_of
from service.inference.explanation import explain_frames
from service.inference.negatives import STORED, NegativeLabels, package_negatives
from service.inference.question_memory import (
    prediction_bytes,
    question_bytes,
    rivalry_bytes,
    text_bytes,
)
from service.inference.ranking import rank
from service.inference.rivals import COMPARED, nearest_rivals
from service.inference.segments import Hysteresis, merge_segments
from service.settings import DEMO_BUNDLE, Settings
from tests.service.conftest import RunningServer, clip_bytes, fake_runtime, running, until
from tests.service.memory_formula import MemoryFormula
from tests.service.test_open_set import calibration

WIDE = "\U0001f600"  # makes every character of its text take four bytes
SETTINGS = Settings(max_text_bytes=256 << 10, max_labels=1000, max_views=4)
FORMULA = MemoryFormula(SETTINGS, open_bundle(DEMO_BUNDLE).manifest)
INFO = VideoInfo(
    duration_s=1.0, fps=1.0, width=64, height=64, codec="h264", frames=8, frame_times_s=(0.5,) * 8
)

# Texts that take most, of those that a request may have: short ones, wide ones and long ones.
LISTS = {
    "short": [f"{n:x}" for n in range(1000)],
    "wide": [f"{WIDE}{n} " + "a" * 240 for n in range(1000)],
    "wide throughout": [WIDE * 60 + f"{n}" for n in range(1000)],
    "plain": [f"{n} " + "a" * 240 for n in range(1000)],
}


@pytest.fixture(autouse=True, scope="module")
def what_is_loaded_for_wide_texts() -> None:
    """It is no text, and stays whoever is first."""
    label_prompts([WIDE])
    label_key(WIDE)


@contextlib.contextmanager
def counted() -> Iterator[Callable[[], tuple[int, int]]]:
    """Count bytes: what is held beside before, and the most there was."""
    gc.collect()
    gc.freeze()  # what else is loaded need not be looked through each time
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    try:
        yield lambda: _beside(before)
    finally:
        tracemalloc.stop()


def _beside(before: int) -> tuple[int, int]:
    held, most = tracemalloc.get_traced_memory()
    return held - before, most - before


def form_of(labels: Sequence[str]) -> bytes:
    text = json.dumps(labels, ensure_ascii=False).encode()
    head = b'--b\r\nContent-Disposition: form-data; name="'
    return (
        b"".join([head, b'video_id"\r\n\r\n', b"0" * 32, b"\r\n", head, b'labels"\r\n\r\n', text])
        + b"\r\n--b--\r\n"
    )


def json_of(labels: Sequence[str]) -> bytes:
    given = {"video": {"id": "0" * 32}, "labels": labels}
    return json.dumps(given, ensure_ascii=False).encode()


def urlencoded(labels: Sequence[str]) -> bytes:
    text = json.dumps(labels, ensure_ascii=False).encode()
    return b"video_id=" + b"0" * 32 + b"&labels=" + text.replace(b"%", b"%25")


BODIES: dict[str, Callable[[Sequence[str]], bytes]] = {
    "multipart/form-data; boundary=b": form_of,
    "application/json": json_of,
    "application/x-www-form-urlencoded": urlencoded,
}


def of(question: Question | EmbeddingQuestion | TimelineQuestion) -> int:
    return question_bytes(question, FORMULA.manifest, SETTINGS.max_views, SETTINGS.max_windows)


async def in_pieces(body: bytes) -> Any:
    for first in range(0, len(body), 60_000):
        yield body[first : first + 60_000]


@pytest.mark.parametrize("written", BODIES)
@pytest.mark.parametrize("kind", LISTS)
def test_texts_of_a_request(kind: str, written: str) -> None:
    body, limits = BODIES[written](LISTS[kind]), body_limits(SETTINGS, ClassifyBody)
    headers = {"content-type": written}

    async def scenario() -> None:
        with counted() as count:
            form = await read_body(in_pieces(body), headers, limits)
            gc.collect()
            held, _ = count()
            assert held <= FORMULA.body
            request = parse_classify(form, SETTINGS, lambda: False)
            _, most = count()
            assert most <= FORMULA.body + FORMULA.parsing
            form.forget_texts()
            gc.collect()
            held, _ = count()
            assert held <= of(request.question)
            assert len(request.question.labels) == 1000

    asyncio.run(scenario())


LARGEST = SETTINGS.max_text_bytes - 100
# Texts of which much more could be made before anybody counts.
REFUSED = {
    "lines": ("labels=" + "ab%0A" * (LARGEST // 5), "too_many_labels"),
    "vertical tabs": ("labels=" + "ab%0B" * (LARGEST // 5), "too_many_labels"),
    "blank lines": ("labels=a" + "%0A+" * (LARGEST // 4), "too_many_labels"),
    "arrays": ("labels=[" + "[]," * (LARGEST // 3), "too_many_labels"),
    "numbers": ("labels=[" + "1000," * (LARGEST // 5), "bad_field"),
    "escapes": ("labels=" + "%41" * (LARGEST // 3), "missing_field"),
    "escaped twice": ("labels=%255b" + "%2541" * (LARGEST // 5), "bad_field"),
    "templates": ("labels=a&template=[" + "[]," * (LARGEST // 3), "missing_field"),
    "fields": ("labels=a%0Ab&" * (LARGEST // 13), "too_many_parts"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_texts_that_are_refused(kind: str) -> None:
    limits = body_limits(SETTINGS, ClassifyBody)
    body, code = REFUSED[kind][0].encode(), REFUSED[kind][1]

    async def scenario() -> None:
        headers = {"content-type": "application/x-www-form-urlencoded"}
        form = await read_body(in_pieces(body), headers, limits)
        parse_classify(form, SETTINGS, lambda: False)

    with counted() as count:
        with pytest.raises(ApiError) as refusal:
            asyncio.run(scenario())
        _, most = count()
    assert refusal.value.code == code
    assert most <= FORMULA.body + FORMULA.parsing


@pytest.mark.parametrize("templates", [(), ("a photo of {} here",)])
@pytest.mark.parametrize("kind", LISTS)
def test_prompts_and_vectors_of_a_request(kind: str, templates: tuple[str, ...]) -> None:
    labels, dim = LISTS[kind], FORMULA.manifest.text_dim
    if templates:
        labels = labels[: SETTINGS.max_text_bytes // 400]

    async def encode(prompts: Sequence[str], client: str) -> Any:
        return np.zeros((len(prompts), dim), np.float32)

    async def scenario() -> None:
        cache = LabelCache(encode, 1)  # what is kept has a term of its own
        with counted() as count:
            vectors = await cache.get(label_prompts(labels, templates))
            _, most = count()
        assert len(vectors.vectors) == len(labels)
        assert most <= text_bytes(labels, templates, FORMULA.manifest)

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", LISTS)
def test_an_answer(kind: str) -> None:
    labels = LISTS[kind]
    logits = np.random.default_rng(0).standard_normal((SETTINGS.max_views, len(labels)), np.float32)
    with counted() as count:
        answer = Classification(
            model=ModelName(name="n", bundle="b", precision="p", runtime="r"),
            video_id="v",
            predictions=rank(labels, logits, Question(labels=()), FORMULA.manifest).predictions,
            video=INFO,
            timing_ms=Timing(),
            cache=CacheUse(video="hit", text_hits=1, text_misses=0),
        )
        written = asyncio.run(write_answer(answer))
        _, most = count()
    assert len(written) > 100 * len(labels)
    assert most <= 4 * sum(len(label.encode()) for label in labels) + prediction_bytes(
        len(labels), SETTINGS.max_views
    )


def test_the_segments_of_a_timeline() -> None:
    """Each of a hundred labels is on in every other window."""
    labels, windows = LISTS["wide"][:100], SETTINGS.max_windows
    asked = Question(labels=tuple(labels), top_k=1, scores="sigmoid")
    with counted() as count:
        segments = merge_segments(
            labels,
            ((float(i), i + 1.0, np.full(len(labels), 1.0 - i % 2)) for i in range(windows)),
            Hysteresis(exclusive=False),
        )
        written = EndLine(segments=segments, timing_ms=Timing()).model_dump_json().encode()
        _, most = count()
    assert len(segments) == windows // 2 * len(labels)
    assert len(written) > 100 * len(segments)
    assert most <= of(TimelineQuestion(1, 1, asked)) - of(asked)


@pytest.mark.parametrize("top_k", [1, 10])
@pytest.mark.parametrize("kind", ["short", "wide"])
def test_the_windows_of_a_timeline(kind: str, top_k: int) -> None:
    labels, windows = LISTS[kind][:100], SETTINGS.max_windows
    asked = Question(labels=tuple(labels), top_k=top_k)
    predictions = [Prediction(label, 1 / 3, 1 / 3, 1 / 3, 7, 1 / 3) for label in labels[:top_k]]
    video = TimelineVideo(**INFO.model_dump(include={*TimelineVideo.model_fields}))

    def lines() -> Iterator[TimelineLine]:
        name = ModelName(name="n", bundle="b", precision="p", runtime="r")
        yield FactsLine(model=name, video=video, window_s=1, stride_s=1, windows=windows)
        for number in range(windows):
            yield WindowLine(
                start_s=float(number),
                end_s=number + 1.0,
                frame_times_s=tuple(number + frame / 33 for frame in range(FORMULA.one_view[0])),
                predictions=tuple(replace(prediction) for prediction in predictions),
                none_of_these=1 / 3,
            )
        yield EndLine(segments=(), timing_ms=Timing())

    with counted() as count:
        answer = joined(lines())
        assert answer is not None
        written = TIMELINE.dump_json(answer)
        _, most = count()
    assert len(written) > 100 * windows * top_k
    assert most <= of(TimelineQuestion(1, 1, asked)) - of(asked)


@pytest.mark.parametrize("base64", [False, True])
def test_an_answer_of_vectors(base64: bool) -> None:
    texts, dim = tuple(LISTS["plain"]), FORMULA.manifest.text_dim
    vectors = np.random.default_rng(0).standard_normal((len(texts), dim), np.float32)
    question = EmbeddingQuestion(texts, base64=base64)
    name = ModelName(name="n", bundle="b", precision="p", runtime="r")
    with counted() as count:
        written = embeddings_of(name, vectors, question, 0).model_dump_json().encode()
        _, most = count()
    assert len(written) > 4 * dim * len(texts)
    assert most <= of(question) - text_bytes(texts, (), FORMULA.manifest)


@pytest.mark.parametrize("kind", LISTS)
def test_open_set(kind: str) -> None:
    labels, dim = LISTS[kind], FORMULA.manifest.text_dim
    draw = np.random.default_rng(0)
    names = tuple(f"negative {n}" for n in range(len(package_negatives()) + STORED))
    negatives = NegativeLabels(names, draw.standard_normal((len(names), dim), np.float32))
    vectors = draw.standard_normal((len(labels), dim), np.float32)
    logits = draw.standard_normal((SETTINGS.max_views, len(labels)), np.float32)
    asked = Question(labels=tuple(labels), open_set=True)
    with counted() as count:
        others = negatives.far_from(labels, vectors)
        against = draw.standard_normal((SETTINGS.max_views, len(others)), np.float32)
        _, most = count()
        assert most <= of(asked) - of(replace(asked, open_set=False))
        rank(labels, logits, asked, FORMULA.manifest, against)
        _, most = count()
    assert most <= of(asked) - text_bytes(labels, (), FORMULA.manifest)


@pytest.mark.parametrize("dim", [64, 512, 1280])
@pytest.mark.parametrize("labels", [2, COMPARED, 1000])
def test_the_rivals_of_a_sigmoid(labels: int, dim: int) -> None:
    """Of a calibrated network with vectors of any usual length."""
    contrast = Contrast(share=0.7, known=Logistic())
    manifest = FORMULA.manifest.model_copy(update={"calibration": calibration(contrast=contrast)})
    draw, texts = np.random.default_rng(0), tuple(LISTS["short"][:labels])
    vectors = draw.standard_normal((labels, dim), np.float32)
    logits = draw.standard_normal((SETTINGS.max_views, labels), np.float32)
    bound = rivalry_bytes(labels, dim)
    with counted() as count:
        rivals = nearest_rivals(vectors)
        _, most = count()
        assert most <= bound
        assert labels < COMPARED or most > 0.75 * bound  # the term is no larger than need be
        rank(texts, logits, Question(texts, scores="sigmoid"), manifest, rivals=rivals)
        _, most = count()
    assert most <= bound + prediction_bytes(labels, SETTINGS.max_views)


def test_rivals_are_charged_where_there_are_any() -> None:
    asked = Question(labels=tuple(LISTS["plain"]), scores="sigmoid")
    contrast = Contrast(share=0.7, known=Logistic())
    plain = [FORMULA.manifest.model_copy(update={"calibration": calibration()}), FORMULA.manifest]
    with_rivals = plain[0].model_copy(update={"calibration": calibration(contrast=contrast)})
    charged, *others = (question_bytes(asked, m, 1, 1) for m in (with_rivals, *plain))
    assert charged - rivalry_bytes(1000, FORMULA.manifest.text_dim) == others[0] == others[1]
    assert charged - others[0] >= 4_000_000


def test_an_explanation() -> None:
    frames = np.zeros((1, *FORMULA.one_view), np.uint8)
    asked = Question(labels=("a",), explain="frames")

    async def encode(frames: Any) -> Any:
        return {"video": np.concatenate([frames])}  # a batch is a copy

    async def score(features: Any, of: slice) -> Any:
        return np.zeros((1, 1), np.float32)

    async def rank(logits: Any) -> Prediction:
        return best

    times, best = [0.0] * frames.shape[1], Prediction("a", 0.0, 0.0, 0.0, 0)
    with counted() as count:
        decoded = frames.copy()
        asyncio.run(explain_frames(decoded, times, best, encode, score, rank))
        _, most = count()
    assert most > 2 * frames.nbytes
    assert most <= of(asked) - of(replace(asked, explain=None))


@pytest.mark.parametrize("kind", LISTS)
def test_kept_labels(kind: str) -> None:
    bound = 2 << 20

    async def encode(prompts: Sequence[str], client: str) -> Any:
        return np.zeros((len(prompts), 64), np.float32)

    async def scenario() -> None:
        with counted() as count:
            cache = LabelCache(encode, bound)
            for number in range(5):
                await cache.get([f"{number}{label}" for label in LISTS[kind]], client=f"{number}")
            # The thread in which vectors were put together may still hold them.
            await asyncio.get_running_loop().shutdown_default_executor()
            gc.collect()
            held, _ = count()
            assert cache._known.nbytes > 0.9 * bound
        assert held <= bound

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [1, 10_000])
def test_kept_clips(size: int) -> None:
    bound = 1 << 20

    async def scenario() -> None:
        with counted() as count:
            cache = FeatureCache(bound, 3600)
            for number in range(bound // (1000 + 4 * size)):
                info = VideoInfo.model_validate_json(INFO.model_dump_json())
                features = {
                    name: np.zeros((1, length), np.float32)
                    for name, length in (("video", size), ("context", 2))
                }
                await cache.put(f"{number:032}", EncodedClip(features, info), f"{number % 7}")
            gc.collect()
            held, _ = count()
            assert cache.nbytes > 0.9 * bound
        assert held <= bound

    asyncio.run(scenario())


@pytest.mark.parametrize("size", [200, 2000])
def test_what_waits_for_redis(size: int) -> None:
    async def never(_: Any) -> str | None:
        raise AssertionError

    async def scenario() -> None:
        with counted() as count:
            queue = WriteBehind(never)
            for number in range(0, 10**6, ENTRIES_PER_WRITE):
                keys = range(number, number + ENTRIES_PER_WRITE)
                entries = {
                    b"xclip:label:%080d" % key: Entry(bytes(size), 60, f"{key % 1000}")
                    for key in keys
                }
                if queue.add(entries):
                    break
            else:
                raise AssertionError("without bound")
            del entries
            held, _ = count()
        assert held <= MAX_WAITING_BYTES

    asyncio.run(scenario())


def test_kept_words_of_the_tokenizer() -> None:
    """Words of letters that no vocabulary puts together: hardly a token has two of them."""
    tokenizer, draw = Tokenizer.clip(), random.Random(0)
    kept = tokenizer._kept_ids.cache_parameters()["maxsize"]
    words = ["".join(draw.choices("qxzjvkwh", k=40)) for _ in range(1000)]
    with counted() as count:
        tokens = sum(len(tokenizer._word_ids(word)) for word in words)
        held, _ = count()
    assert tokens > 20 * len(words)
    assert tokenizer._kept_ids.cache_info().currsize == len(words)
    assert kept * held / len(words) <= 100 << 20


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(fake_runtime(), max_connections=60) as started:
        yield started


def test_connections(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads a byte of many answers, and sends on and on."""
    labels = tuple(f"label {n} " + "x" * 200 for n in range(20_000))
    vectors = np.zeros((len(labels), 1), np.float32)
    large = LabelSet(labels, labels, vectors)
    monkeypatch.setattr(server.server.engine.labels, "_sets", {"big": large})
    ask = b"GET /labels/big HTTP/1.1\r\nHost: x\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(2000):
                    one.send(ask)
        connections: Any = server.web.server_state.connections
        until(lambda: len(connections) >= 20)
        until(lambda: all(c.transport.get_write_buffer_size() for c in list(connections)))
        assert all(c.transport.get_write_buffer_size() <= 128 << 10 for c in list(connections))


def test_frames_and_features(server: RunningServer, clip: bytes) -> None:
    seen: list[int] = []
    made: list[int] = []
    engine = server.server.engine
    encode = engine._clips._batcher._encode
    formula = MemoryFormula(server.settings, engine.bundle.manifest)

    def look(frames: Any) -> Any:
        seen.append(frames.nbytes)
        features = encode(frames)
        made.append(sum(array.nbytes for array in features.values()))
        return features

    engine._clips._batcher._encode = look
    try:
        asked = server.classify(clip, labels=["a"], views=str(server.settings.max_views))
    finally:
        engine._clips._batcher._encode = encode
    assert asked.status_code == 200
    assert seen == [formula.frames]
    assert 0 < made[0] <= formula.features


def test_frames_of_a_timeline(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the largest batches: one in the memory of the worker, and two copies of others."""
    engine = server.server.engine
    formula = MemoryFormula(server.settings, engine.bundle.manifest)
    batch = PoolOptions().max_views * prod(formula.one_view)
    windows, copied, most = engine.pool.windows, [], 0

    async def watched(*given: Any, **options: Any) -> Any:
        nonlocal most
        async with contextlib.aclosing(windows(*given, **options)) as parts:
            async for part in parts:
                if isinstance(part, DecodedWindows):
                    own = part.frames if part.frames.base is None else part.frames.base
                    copied.append(weakref.ref(own))
                    most = max(most, sum(a.nbytes for ref in copied if (a := ref()) is not None))
                    del own
                yield part

    monkeypatch.setattr(engine, "_timelines", replace(engine._timelines, batch=1000))
    monkeypatch.setattr(engine.pool, "windows", watched)
    response = server.client.post(
        "/timeline",
        files={"video": ("c", clip_bytes(frames=64))},
        data={"labels": "a", "window_s": "1", "stride_s": "0.125"},
    )
    assert response.status_code == 200, response.text
    assert len(response.json()["windows"]) > 3 * PoolOptions().max_views
    assert batch <= most <= 2 * batch
    at_once = max(1, (server.settings.decode_workers or available_cpus()) // 2)
    assert at_once * (most + batch) <= formula.timelines
