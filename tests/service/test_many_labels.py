"""Ten thousand labels in a request, a hundred thousand in a stored list: flat memory, same answers,
and others are not held up.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from export.bundle import Bundle, LabelSet, open_bundle
from export.bundle.labels import write_label_set
from export.bundle.writing import write_manifest
from export.runtime import FakeRuntime, open_runtime
from export.runtime.contract import PAIRS_PER_RUN
from model.files import sha256_of
from model.inputs import VideoInfo
from service.api.json_stream import AT_ONCE, write_answer
from service.cache.clips import EncodedClip
from service.cache.labels import PART, LabelCache
from service.contract.answer import (
    CacheUse,
    Classification,
    ModelName,
    Prediction,
    Shortlist,
    Timing,
)
from service.inference import classification
from service.inference.ranking import rank
from service.inference.stage_timer import StageTimer
from service.settings import DEMO_BUNDLE
from tests.service.conftest import clip_bytes, fake_runtime, running, until

ROOT = Path(__file__).resolve().parents[2]
MANY, STORED = 10_000, 100_000
GROWTH_BYTES = 200 << 20
COLOURS = ("red", "blue", "green", "yellow", "white")


def labels_of(count: int) -> list[str]:
    return [f"{COLOURS[i % 5]} shape number {i}" for i in range(count)]


@pytest.fixture(scope="module")
def large_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The embedded bundle with a stored list of a hundred thousand labels."""
    folder = tmp_path_factory.mktemp("bundle") / "large"
    shutil.copytree(DEMO_BUNDLE, folder)
    manifest = open_bundle(folder).manifest
    names = tuple(labels_of(STORED))
    vectors = np.random.default_rng(0).standard_normal((STORED, manifest.text_dim), np.float32)
    info = write_label_set(folder, "many", LabelSet(names, names, vectors))
    files = {name: sha256_of(folder / name) for name in (info.vectors, info.prompts)}
    write_manifest(
        folder,
        manifest.model_copy(
            update={
                "labels": {**manifest.labels, "many": info},
                "files": {**manifest.files, **files},
            }
        ),
    )
    return open_bundle(folder)


class ServerProcess:
    """A server of its own, whose memory is nobody else's."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.client = httpx.Client(base_url=url, timeout=None)

    def ask(self, **fields: str) -> dict[str, Any]:
        files = {name: (None, value) for name, value in fields.items()}
        response = self.client.post("/classify", files=files)
        assert response.status_code == 200, response.text[:500]
        found: dict[str, Any] = response.json()
        return found

    @property
    def peak_bytes(self) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) << 10


@contextmanager
def server_process(bundle: Path) -> Iterator[ServerProcess]:
    command = [sys.executable, "-m", "service", "--port", "0", "--bundle", str(bundle)]
    environment = {**os.environ, "XCLIP_DECODE_WORKERS": "1", "XCLIP_LOG_LEVEL": "error"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://[\d.:]+", process.stdout.readline())
            assert found is not None
            server = ServerProcess(process, found[0])
            with server.client:
                yield server
        finally:
            process.terminate()
            process.wait()


def test_memory_stays_flat(large_bundle: Bundle) -> None:
    with server_process(large_bundle.path) as server:
        files = {"video": ("c", clip_bytes())}
        few = server.client.post("/classify", files=files, data={"labels": labels_of(10)}).json()
        clip = few["video_id"]
        before = server.peak_bytes
        many = server.ask(video_id=clip, labels=json.dumps(labels_of(MANY)))
        assert len(many["predictions"]) == MANY
        stored = server.ask(video_id=clip, label_set="many")
        assert len(stored["predictions"]) == STORED
        short = server.ask(video_id=clip, label_set="many", shortlist="50")
        assert len(short["predictions"]) == 50
        listed = server.client.get("/labels/many").json()
        assert len(listed["labels"]) == STORED
        grown = server.peak_bytes - before
    assert grown <= GROWTH_BYTES, f"{grown >> 20} MiB"
    # What ten labels get they get among ten thousand, too.
    among = {p["label"]: p["logit"] for p in many["predictions"]}
    for p in few["predictions"]:
        assert among[p["label"]] == pytest.approx(p["logit"], abs=1e-3)


@pytest.mark.parametrize("views", [1, 3])
def test_turns_of_the_lane_change_no_bit(large_bundle: Bundle, views: int) -> None:
    """The service takes turns, the runtime cuts runs: both as one long list, uncut, gives."""
    labels = 2 * PAIRS_PER_RUN + 7
    stored = large_bundle.label_set("many")
    text = stored.vectors[:labels]
    runtime = open_runtime(large_bundle, "onnxruntime-cpu")
    drawn = np.random.default_rng(views)
    shapes: dict[str, tuple[Any, ...]] = {
        o.name: o.shape[1:] for o in large_bundle.manifest.graphs["video_encoder"].outputs
    }
    features: dict[str, Any] = {
        name: drawn.standard_normal((views, *shape), np.float32) for name, shape in shapes.items()
    }
    everything = np.ascontiguousarray(np.broadcast_to(text, (views, *text.shape)))
    uncut = runtime._graphs["score_head"]({**features, "text": everything})["logits"]  # type: ignore[attr-defined]
    cut = runtime.score(features, everything)
    runtime.close()
    np.testing.assert_allclose(cut, uncut, rtol=0, atol=2e-5)

    with running(bundle=large_bundle.path) as server:
        engine = server.server.engine
        clip = EncodedClip(features, None)  # type: ignore[arg-type]
        score = engine.labels.score(clip, text, StageTimer(lambda *_: None), "")
        in_turns = asyncio.run(score)
    np.testing.assert_array_equal(in_turns, cut)


class EndlessScore(FakeRuntime):
    """Each score takes until another call waits for its turn, as with a network that is slow."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.waiting: Callable[[], int] = lambda: 2
        self.quick = threading.Event()

    def score(self, features: Any, text: Any) -> Any:
        while self.waiting() < 2 and not self.quick.is_set():
            time.sleep(0.001)
        return super().score(features, text)


def test_a_long_list_does_not_hold_up_a_clip(large_bundle: Bundle) -> None:
    """Between the parts of one request's scores another is encoded, scored and answered."""
    manifest = large_bundle.manifest
    runtime = EndlessScore(manifest.inputs, dim=manifest.text_dim)
    with (
        running(runtime, bundle=large_bundle.path) as server,
        concurrent.futures.ThreadPoolExecutor(1) as threads,
    ):
        clip = server.classify(clip_bytes(1), labels=["a"]).json()["video_id"]
        thread = server.server.engine.thread
        runtime.waiting = lambda: thread.waiting
        long = threads.submit(server.classify, None, video_id=clip, label_set="many", top_k="1")
        until(lambda: thread.waiting == 1)
        short = server.classify(clip_bytes(2), labels=["a", "b"])
        assert short.status_code == 200
        assert not long.done(), "it waited for the whole list"
        runtime.quick.set()
        assert long.result().status_code == 200


async def turns_of_others(work: Awaitable[Any]) -> int:
    """How often the event loop turns to somebody else before the work is done."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    waiting = asyncio.create_task(others())
    await work
    waiting.cancel()
    return turns


def test_others_have_their_turns_while_known_labels_are_gathered() -> None:
    async def encode(prompts: Sequence[str], client: str) -> Any:
        return np.zeros((len(prompts), 4), np.float32)

    async def scenario() -> None:
        cache = LabelCache(encode, 64 << 20)
        await cache.get(labels_of(MANY))
        assert await turns_of_others(cache.get(labels_of(MANY))) >= MANY // PART

    asyncio.run(scenario())


def test_long_lists_are_ranked_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked_in: list[str] = []

    def seen(*arguments: Any) -> Any:
        ranked_in.append(threading.current_thread().name)
        return rank(*arguments)

    monkeypatch.setattr(classification, "rank", seen)
    with running(fake_runtime()) as server:
        clip = server.classify(clip_bytes(1), labels=["a"]).json()["video_id"]
        server.classify(None, video_id=clip, labels=json.dumps(labels_of(MANY)))
    few, many = ranked_in
    assert few != many


@pytest.mark.parametrize("count", [0, 1, AT_ONCE, 2 * AT_ONCE + 1])
def test_answers_are_written_as_the_schema_has_them(count: int) -> None:
    predictions = tuple(Prediction(f'"{i}" é\n', 0.1, float(i), -1.0, i) for i in range(count))
    answer = Classification(
        model=ModelName(name="n", bundle="b", precision="p", runtime="r"),
        video_id="v",
        predictions=predictions,
        video=VideoInfo(
            duration_s=None,
            fps=1.0,
            width=1,
            height=1,
            codec="c",
            frames=1,
            frame_times_s=(0.5,),
        ),
        timing_ms=Timing(),
        cache=CacheUse(video="hit", text_hits=1, text_misses=0),
        shortlist=Shortlist(compared=9, scored=count),
    )
    assert asyncio.run(write_answer(answer)).decode() == answer.model_dump_json()
    assert asyncio.run(turns_of_others(write_answer(answer))) >= count // AT_ONCE - 1


def test_means_of_templates_are_those_of_one_by_one() -> None:
    vectors = {f"p{i}": np.random.default_rng(i).standard_normal(8, np.float32) for i in range(40)}

    async def encode(prompts: Any, client: str) -> Any:
        return np.stack([vectors[p] for p in prompts])

    async def scenario() -> None:
        cache = LabelCache(encode, 1 << 20)
        prompts = list(vectors) * 100  # enough to be put together in a thread
        found = await cache.get(prompts, each=4)
        few = await cache.get(list(vectors), each=4)
        wanted = np.stack([vectors[p] for p in vectors]).reshape(10, 4, 8).mean(axis=1)
        np.testing.assert_array_equal(few.vectors, wanted)
        np.testing.assert_array_equal(found.vectors, np.tile(wanted, (100, 1)))
        assert (found.hits, found.misses) == (0, 40)

    asyncio.run(scenario())
