"""In process, over HTTP, plain and asynchronous: one answer, and one form of problem."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import fsspec
import httpx
import pytest

from service.api.form_fields import form_names
from service.api.problems import STATUS, problem
from service.contract.body import ClassifyBody
from service.contract.errors import ApiError, ErrorCode
from service.contract.upload import Upload
from tests.conftest import ROOT, missing
from tests.service.conftest import RunningServer, clip_bytes, running, until
from tests.xclip_serve.conftest import CLIP, LABELS
from xclip_serve import AsyncClient, Classification, Classifier, ClassifyError, Client, engine_loop
from xclip_serve.exchange import read
from xclip_serve.question import Options, Video, form_fields
from xclip_serve.question import question as question_of
from xclip_serve.uploads import upload_of

QUESTIONS: list[dict[str, Any]] = [
    {"labels": LABELS},
    {"labels": LABELS, "top_k": 1},
    {"labels": LABELS, "start": 0.25, "end": 1, "views": 2},
    {"labels": LABELS, "template": "a video of {}"},
    {"labels": LABELS, "frame_rule": "keyframes"},
    {"labels": LABELS, "template": ["a video of {}", "{}"]},
    {"labels": ["one, two", '["three"]', "four\nfive"]},
]
MISTAKES: list[dict[str, Any]] = [
    {"labels": []},
    {"labels": ["a", "A"]},
    {"labels": ["a", " "]},
    {"label_set": "none"},
    {"labels": LABELS, "template": "no place"},
    {"labels": LABELS, "top_k": 0},
    {"labels": LABELS, "start": -1e-7},
    {"labels": LABELS, "start": 2, "end": 1},
    {"labels": LABELS, "start": 1e6},
    {"labels": LABELS, "views": 1000},
]


def asked_as_json(server: RunningServer, content: bytes, asked: dict[str, Any]) -> Classification:
    data = base64.b64encode(content).decode()
    response = httpx.post(
        f"{server.base_url}/v1/classify", json={"video": {"data": data}, **asked}, timeout=None
    )
    return Classification.model_validate_json(response.content)


def asked_with_curl(server: RunningServer, clip: Path, asked: dict[str, Any]) -> Classification:
    if shutil.which("curl") is None:
        missing("curl")
    texts = [
        part
        for name, text in form_fields(asked).items()
        for part in ("--form-string", f"{name}={text}")
    ]
    done = subprocess.run(
        ["curl", "-s", f"{server.base_url}/v1/classify", "-F", f"video=@{clip}", *texts],
        capture_output=True, check=True,
    )  # fmt: skip
    return Classification.model_validate_json(done.stdout)


def asked_async(server: RunningServer, video: Any, **question: Any) -> Classification:
    async def ask() -> Classification:
        async with AsyncClient(server.base_url) as client:
            return await client.classify(video, **question)

    return asyncio.run(ask())


@pytest.mark.parametrize("question", QUESTIONS, ids=repr)
def test_every_way_to_ask_gives_the_same(
    server: RunningServer, classifier: Classifier, question: dict[str, Any]
) -> None:
    content = CLIP.read_bytes()
    options = dict(question)
    asked = question_of(options.pop("labels"), options)  # type: ignore[arg-type]
    with Client(server.base_url) as client:
        answers = [
            client.classify(CLIP, **question),
            client.classify(str(CLIP), **question),
            client.classify(content, **question),
            client.classify(io.BytesIO(content), **question),
            asked_async(server, CLIP, **question),
            asked_as_json(server, content, asked),
            asked_with_curl(server, CLIP, asked),
            classifier.classify(CLIP, **question),
            classifier.classify(content, **question),
            classifier.classify(io.BytesIO(content), **question),
        ]
    assert {answer.predictions for answer in map(hashable, answers)} == {
        hashable(answers[0]).predictions
    }
    assert len({answer.video_id for answer in answers}) == 1
    assert all(answer.video == answers[0].video for answer in answers)


class hashable:  # noqa: N801
    """Predictions that a set can hold."""

    def __init__(self, answer: Classification) -> None:
        self.predictions = tuple(
            (p.label, p.score, p.logit, p.similarity, p.index) for p in answer.predictions
        )


def test_the_right_label_is_first_and_an_answer_is_asked_about_again(
    server: RunningServer, classifier: Classifier
) -> None:
    with Client(server.base_url) as client:
        for ask in (client, classifier):
            first = ask.classify(CLIP, LABELS)
            assert first.predictions[0].label == LABELS[0]
            again = ask.classify(video_id=first.video_id, labels=LABELS)
            assert again.predictions == first.predictions
            assert again.cache.video == "hit"


def test_a_clip_is_sent_once_asked_about_and_forgotten(
    server: RunningServer, classifier: Classifier
) -> None:
    content = clip_bytes(77)
    with Client(server.base_url) as client:
        for ask in (client, classifier):
            stored = ask.encode(content, views=2)
            assert len(stored.video.frame_times_s) == 2 * classifier.manifest.inputs.num_frames
            for labels in (LABELS, ["a"]):
                answer = ask.classify(video_id=stored.video_id, labels=labels)
                assert (answer.video_id, answer.cache.video) == (stored.video_id, "hit")
            for _ in range(2):
                ask.forget(stored.video_id)
            assert refusal(ask, None, labels=LABELS, video_id=stored.video_id).code == (
                "unknown_video_id"
            )
        with pytest.raises(ClassifyError) as caught:
            client.forget("no/id")
    assert caught.value.status in (404, 422)


def test_the_same_from_asynchronous_code(server: RunningServer) -> None:
    content = clip_bytes(78)

    async def scenario() -> None:
        async with AsyncClient(server.base_url) as client:
            stored = await client.encode(content)
            again = await client.classify(video_id=stored.video_id, labels=LABELS)
            assert again.cache.video == "hit"
            await client.forget(stored.video_id)
            with pytest.raises(ClassifyError) as caught:
                await client.embed(video_id=stored.video_id)
            assert caught.value.code == "unknown_video_id"
            found: dict[bytes, Any] = {
                clip: vector async for clip, vector in client.embed_many([content, b"no video"])
            }
            one = await client.embed(content)
            assert (found[content].vector == one.vector).all()
            assert found[b"no video"].code == "not_a_video"

    asyncio.run(scenario())


def refusal(ask: Client | Classifier, video: Any, **question: Any) -> ClassifyError:
    with pytest.raises(ClassifyError) as caught:
        ask.classify(video, **question)
    return caught.value


@pytest.mark.parametrize("question", MISTAKES, ids=repr)
def test_a_mistake_is_the_same_problem_in_process(
    server: RunningServer, classifier: Classifier, question: dict[str, Any]
) -> None:
    with Client(server.base_url) as client:
        theirs, ours = (refusal(ask, CLIP, **question) for ask in (client, classifier))
    assert (theirs.code, theirs.detail, theirs.status) == (ours.code, ours.detail, ours.status)
    assert theirs.status == STATUS[theirs.code]  # type: ignore[index]
    assert theirs.request_id
    assert str(theirs) == theirs.detail


@pytest.mark.parametrize("video", [b"", b"no video", CLIP.read_bytes()[:3000]], ids=len)
def test_a_bad_clip_is_the_same_problem_in_process(
    server: RunningServer, classifier: Classifier, video: bytes
) -> None:
    with Client(server.base_url) as client:
        theirs, ours = (refusal(ask, video, labels=LABELS) for ask in (client, classifier))
    assert (theirs.code, theirs.detail, theirs.status) == (ours.code, ours.detail, ours.status)


@pytest.mark.parametrize("code", STATUS)
def test_every_code_becomes_an_exception(code: ErrorCode) -> None:
    written = problem(ApiError(code, "what to do", retry_after_s=7), "the-id")
    response = httpx.Response(
        written.status_code, headers=dict(written.headers), content=bytes(written.body),
        request=httpx.Request("POST", "http://server/classify"),
    )  # fmt: skip
    with pytest.raises(ClassifyError, match="what to do") as caught:
        read(response, Classification)
    error = caught.value
    assert (error.code, error.status, error.retry_after_s, error.request_id) == (
        code, STATUS[code], 7, "the-id",
    )  # fmt: skip


def test_a_busy_server_is_asked_again_when_it_says(server: RunningServer) -> None:
    with running(rate_limit="1 per 2 seconds") as busy, Client(busy.base_url) as client:
        answers = [client.classify(CLIP, LABELS) for _ in range(3)]
    assert len(answers) == 3


def test_one_who_is_to_come_back_in_an_hour_is_told(server: RunningServer) -> None:
    with running(rate_limit="1/hour") as busy, Client(busy.base_url) as client:
        client.classify(CLIP, LABELS)
        error = refusal(client, CLIP, labels=LABELS)
    assert (error.code, error.status) == ("rate_limited", 429)
    assert error.retry_after_s is not None
    assert error.retry_after_s > 60


def test_a_stream_that_cannot_be_read_twice_is_sent_once(server: RunningServer) -> None:
    reading, writing = os.pipe()

    def fill() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(CLIP.read_bytes())

    thread = threading.Thread(target=fill)
    thread.start()
    with os.fdopen(reading, "rb") as stream, Client(server.base_url) as client:
        assert client.classify(stream, LABELS).predictions[0].label == LABELS[0]
    thread.join()


def test_no_server_and_another_server_are_told_apart() -> None:
    with socket.socket() as taken:  # nobody listens there, and nobody else can meanwhile
        taken.bind(("127.0.0.1", 0))
        with Client(f"http://127.0.0.1:{taken.getsockname()[1]}") as client:
            assert refusal(client, CLIP, labels=LABELS).code == "unreachable"
    response = httpx.Response(
        502, content=b"<html>", request=httpx.Request("POST", "http://proxy/classify")
    )
    with pytest.raises(ClassifyError) as caught:
        read(response, Classification)
    assert (caught.value.code, caught.value.status) == ("unexpected_answer", 502)


def test_a_key_is_sent(tmp_path: Path) -> None:
    from service.access.api_keys import create_key, key_line

    key = create_key()
    file = tmp_path / "keys"
    file.write_text(key_line(key, "alice", None) + "\n")
    with running(api_keys_file=file) as server:
        with Client(server.base_url) as client:
            assert refusal(client, CLIP, labels=LABELS).code == "unauthorized"
        with Client(server.base_url, api_key=key) as client:
            assert client.classify(CLIP, LABELS).predictions


def test_a_clip_in_a_store_is_read_beside_the_event_loop(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsspec.filesystem("memory").pipe("/clip.mp4", CLIP.read_bytes())
    threads = []

    def located(address: str) -> tuple[Any, str]:
        threads.append(threading.current_thread())
        return fsspec.filesystem("memory"), "/clip.mp4"

    monkeypatch.setattr("xclip_serve.storage.located", located)
    answer = asked_async(server, "memory://clip.mp4", labels=LABELS)
    assert answer.predictions[0].label == LABELS[0]
    assert threads
    assert threading.main_thread() not in threads


def test_many_come_each_with_its_answer_or_problem(
    server: RunningServer, classifier: Classifier, tmp_path: Path
) -> None:
    missing = tmp_path / "none.mp4"
    clips: list[Video] = [CLIP, missing, b"no video"]

    async def gather() -> list[Any]:
        async with AsyncClient(server.base_url) as client:
            return [pair async for pair in client.classify_many(clips, LABELS, at_once=2)]

    with Client(server.base_url) as client:
        ways = [
            list(client.classify_many(clips, LABELS, at_once=2)),
            list(classifier.classify_many(clips, LABELS)),
            asyncio.run(gather()),
        ]
    for pairs in ways:
        assert len(pairs) == 3
        answers = dict(pairs)
        assert answers[CLIP].predictions[0].label == LABELS[0]
        assert answers[missing].code == "cannot_open"
        assert str(missing) in answers[missing].detail
        assert answers[b"no video"].code == "not_a_video"


def test_many_are_read_only_as_far_as_there_is_work(classifier: Classifier) -> None:
    read = []

    def endless() -> Any:
        while True:
            read.append(CLIP)
            yield CLIP

    answers = classifier.classify_many(endless(), LABELS, at_once=2)
    for _ in range(5):
        next(answers)
    assert len(read) <= 7
    answers.close()  # type: ignore[attr-defined]


def test_a_clip_that_nobody_waits_for_any_more_is_closed_once_it_is_open(
    classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, goes_on = threading.Event(), threading.Event()
    opened: list[Upload] = []

    def slowly(*arguments: Any) -> Upload:
        begun.set()
        goes_on.wait()
        opened.append(upload_of(*arguments))
        return opened[0]

    async def never(_: Upload | None) -> None:
        raise AssertionError("it is asked about")

    monkeypatch.setattr(engine_loop, "upload_of", slowly)
    asked = classifier._loop.submit(CLIP, never)
    begun.wait()
    asked.cancel()
    goes_on.set()
    until(lambda: bool(opened) and opened[0].file.closed)


def test_every_field_of_the_form_can_be_asked() -> None:
    assert {*Options.__annotations__, "labels", "video_id", "video_url"} == form_names(ClassifyBody)


def test_calls_that_make_no_sense_are_told_at_once(classifier: Classifier) -> None:
    with pytest.raises(TypeError, match="give a list"):
        classifier.classify(CLIP, "a dog")
    with pytest.raises(TypeError, match="no option 'topk'"):
        classifier.classify(CLIP, LABELS, topk=1)  # type: ignore[call-arg]


def test_a_bundle_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="bundle"):
        Classifier(tmp_path)


def test_a_closed_classifier_answers_nobody() -> None:
    opened = Classifier(decode_workers=1)
    opened.close()
    opened.close()
    with pytest.raises(RuntimeError, match="closed"):
        opened.classify(CLIP, LABELS)


def run_example(name: str, *arguments: object) -> list[str]:
    command = [sys.executable, f"examples/{name}.py", *map(str, arguments)]
    run = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": "."}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


@pytest.mark.parametrize("name", ["folder_to_csv", "watch_folder", "search_by_text"])
def test_an_example_says_what_it_is_given(name: str) -> None:
    done = subprocess.run(
        [sys.executable, f"examples/{name}.py"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"`python examples/{name}.py" in done.stderr
    assert "Traceback" not in done.stderr


def test_examples(server: RunningServer, tmp_path: Path) -> None:
    (tmp_path / "left.mp4").write_bytes(CLIP.read_bytes())
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    table = tmp_path / "out.csv"
    run_example("folder_to_csv", tmp_path, table)
    rows = sorted(table.read_text().splitlines()[1:])
    assert "not a video" in rows[0]
    assert LABELS[0] in rows[1]
    (tmp_path / "stop").touch()
    printed = run_example("watch_folder", tmp_path, server.base_url)
    assert printed[0].startswith("broken.mp4\tnot_a_video")
    assert printed[1].startswith(f"left.mp4\t{LABELS[0]}")
