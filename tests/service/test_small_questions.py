"""A small question is read at once, also while large ones hold every thread that reads."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import httpx
import pytest

from service.api.body import SMALL_BYTES
from service.lifecycle.service_state import PARSING_THREADS
from tests.service.conftest import RunningServer, clip_bytes, fake_runtime, running, until

LABELS = [f"a cat of the number {n}" for n in range(30)]
LARGE = [f"a cat of the number {n}" for n in range(1000)]
CLIP = base64.b64encode(clip_bytes()).decode()


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(fake_runtime()) as started:
        yield started


@contextlib.contextmanager
def no_thread_free(server: RunningServer) -> Iterator[None]:
    """Others hold every thread that reads questions for the length of the block."""
    loop, go_on = server.web._loop, threading.Event()
    assert loop is not None
    began = [threading.Event() for _ in range(PARSING_THREADS)]

    def held(begun: threading.Event) -> None:
        begun.set()
        go_on.wait()

    calls: list[Future[None]] = [
        asyncio.run_coroutine_threadsafe(
            server.server.parsing.run(lambda b=begun: held(b), f"client {number}"),  # type: ignore[misc]
            loop,
        )
        for number, begun in enumerate(began)
    ]
    try:
        for begun in began:
            begun.wait()
        yield
    finally:
        go_on.set()
        for call in calls:
            call.result()


QUESTIONS: dict[str, dict[str, Any]] = {
    "a form": {"data": {"labels": json.dumps(LABELS)}, "files": {"video": ("c", clip_bytes())}},
    "repeated fields": {"data": {"labels": LABELS[:10]}, "files": {"video": ("c", clip_bytes())}},
    "JSON": {"json": {"labels": LABELS, "video": {"data": CLIP}}},
    "one of a known clip, in JSON": {"json": {"labels": LABELS, "video": {"id": "ID"}}},
    "one of a known clip, urlencoded": {"data": {"labels": LABELS, "video_id": "ID"}},
}


@pytest.mark.parametrize("kind", QUESTIONS)
def test_a_small_question_waits_for_no_thread(server: RunningServer, kind: str) -> None:
    known = server.classify(clip_bytes(), labels=["a"]).json()["video_id"]
    question = json.loads(json.dumps(QUESTIONS[kind], default=str).replace('"ID"', f'"{known}"'))
    if "files" in question:
        question["files"] = QUESTIONS[kind]["files"]
    with no_thread_free(server):
        answer = server.client.post("/classify", **question)
    assert answer.status_code == 200, answer.text


def test_a_large_one_waits_for_its_turn(server: RunningServer) -> None:
    answers: list[httpx.Response] = []
    asking = threading.Thread(
        target=lambda: answers.append(server.classify(clip_bytes(), labels=json.dumps(LARGE)))
    )
    with no_thread_free(server):
        asking.start()
        until(lambda: len(server.server.parsing._waiting) == 1)
        assert not answers
    asking.join()
    assert answers[0].status_code == 200


def test_what_is_small_is_small_with_all_that_stands_around_it(server: RunningServer) -> None:
    """The heads of parts take time to read as well, also where nothing is in the parts."""
    part = (
        b'--b\r\nContent-Disposition: form-data; name="labels"\r\n'
        b"Content-Type: text/plain; charset=" + b"x" * SMALL_BYTES + b"\r\n\r\n\r\n"
    )
    form = part * 2 + b"--b--\r\n"
    head = {"Content-Type": "multipart/form-data; boundary=b"}
    answers: list[httpx.Response] = []
    asking = threading.Thread(
        target=lambda: answers.append(server.client.post("/classify", content=form, headers=head))
    )
    with no_thread_free(server):
        asking.start()
        until(lambda: len(server.server.parsing._waiting) == 1)
    asking.join()
    assert answers[0].json()["code"] == "bad_field"
