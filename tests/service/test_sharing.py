"""Requests that share work or resources, and what happens to the others when one goes wrong."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from model.inputs import Clip
from service.decode import DecodePool
from tests.service.conftest import (
    RunningServer,
    clip_bytes,
    fake_runtime,
    multipart,
    running,
    until,
)

LABELS = ["juggling balls", "arm wrestling"]


class Gate:
    """Holds up every decode from when it is closed until it is opened, and counts those."""

    def __init__(self) -> None:
        self.arrived = self.gone = 0
        self.open = threading.Event()
        self.open.set()  # a server tries a sample clip before it is ready

    def close(self) -> None:
        self.arrived = self.gone = 0
        self.open.clear()

    async def pass_through(self) -> None:
        self.arrived += 1
        while not self.open.is_set():
            try:
                await asyncio.sleep(0.002)
            except asyncio.CancelledError:
                self.gone += 1
                raise


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    decode = DecodePool.decode

    async def gated(self: DecodePool, *arguments: Any, **options: Any) -> Clip:
        if options.get("client"):  # the sample clip of the start is nobody's
            await made.pass_through()
        return await decode(self, *arguments, **options)

    monkeypatch.setattr(DecodePool, "decode", gated)
    yield made
    made.open.set()


def send(server: RunningServer, video: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(multipart(video, *LABELS))
    return connection


def predictions(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["predictions"]
    return found


def test_an_upload_outlives_its_first_sender(gate: Gate) -> None:
    wanted, other = clip_bytes(1), clip_bytes(2)
    with running(fake_runtime()) as quiet:
        alone = [predictions(quiet.classify(video, labels=LABELS)) for video in (wanted, other)]
    with running(fake_runtime()) as server, concurrent.futures.ThreadPoolExecutor(2) as threads:
        gate.close()
        admission = server.server.admission
        first = send(server, wanted)
        until(lambda: gate.arrived == 1)
        second = threads.submit(server.classify, wanted, labels=LABELS)
        until(lambda: admission.answering == 2)
        first.close()
        until(lambda: admission.answering == 1)
        # its descriptor is free again, and the next upload takes it
        third = threads.submit(server.classify, other, labels=LABELS)
        until(lambda: gate.arrived == 2)
        gate.open.set()
        assert [predictions(second.result()), predictions(third.result())] == alone


def test_a_disconnect_cancels_what_nobody_else_waits_for(gate: Gate) -> None:
    with running(fake_runtime()) as server:
        gate.close()
        connection = send(server, clip_bytes())
        until(lambda: gate.arrived == 1)
        connection.close()
        until(lambda: gate.gone == 1)
        until(lambda: server.server.admission.in_flight == 0)
        text = server.client.get("/metrics").text
    assert 'code="client_disconnected",route="/classify",status="400"' in text
    assert 'status="500"' not in text


def test_the_network_goes_on_while_a_clip_takes_long_to_decode() -> None:
    with (
        running(fake_runtime(), decode_workers=2) as server,
        concurrent.futures.ThreadPoolExecutor(1) as threads,
    ):
        pool = server.server.engine.pool
        until(lambda: pool.ready == 3)  # with the spare: none comes later
        workers = set(pool.pids)
        for pid in workers:  # so that the clip is still being decoded when it is looked for
            os.kill(pid, signal.SIGSTOP)
        late = threads.submit(server.classify, clip_bytes(9), labels=LABELS)
        until(lambda: pool.running == 1)
        (busy,) = (worker.pid for worker in pool._queue._client_of)
        for pid in workers - {busy}:
            os.kill(pid, signal.SIGCONT)
        for shade in range(4):
            assert server.classify(clip_bytes(shade), labels=LABELS).status_code == 200
        assert not late.done()
        os.kill(busy, signal.SIGCONT)
        assert late.result().status_code == 200


def test_a_bad_label_does_not_wait_for_the_clip(gate: Gate) -> None:
    with running(fake_runtime()) as server:
        gate.close()
        response = server.classify(clip_bytes(), labels=["x " * 90])
        assert response.json()["code"] == "label_too_long"
        assert gate.gone == gate.arrived


def test_bad_requests_fail_alone(clip: bytes) -> None:
    asked: list[tuple[bytes, dict[str, Any], int]] = [
        (clip, {"labels": LABELS}, 200),
        (clip[:400], {"labels": LABELS}, 422),
        (clip, {"labels": [*LABELS, "x " * 90]}, 422),
        (b"no video", {"labels": LABELS}, 415),
        (clip, {"labels": LABELS, "start": "99"}, 422),
    ] * 4
    with running(fake_runtime()) as server, concurrent.futures.ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda a: server.classify(a[0], **a[1]), asked))
        assert [a.status_code for a in answers] == [status for _, _, status in asked]
        assert server.server.admission.in_flight == 0


def test_a_worker_that_is_killed_takes_nobody_along() -> None:
    clips = [clip_bytes(shade) for shade in range(6)]
    with running(fake_runtime(), decode_workers=1) as server:
        pool = server.server.engine.pool
        alone = [predictions(server.classify(c, labels=LABELS, end="1.5")) for c in clips]
        with concurrent.futures.ThreadPoolExecutor(6) as threads:
            answers = [threads.submit(server.classify, c, labels=LABELS) for c in clips]
            for _ in range(3):
                until(lambda: bool(pool.pids))
                os.kill(pool.pids[0], signal.SIGKILL)
            statuses = {answer.result().status_code for answer in answers}
        assert statuses <= {200, 422}
        again = [predictions(server.classify(c, labels=LABELS, end="1.5")) for c in clips]
        assert again == alone
        assert server.client.get("/readyz").status_code == 200


def test_a_network_that_fails_once_fails_one_request(clip: bytes) -> None:
    runtime = fake_runtime()
    encode, failures = runtime.encode_video, iter([True])

    def failing(frames: Any) -> Any:
        if next(failures, False):
            raise RuntimeError("out of luck")
        return encode(frames)

    with running(runtime) as server:
        runtime.encode_video = failing  # type: ignore[method-assign]
        server.server.engine._clips._batcher._encode = failing
        assert server.classify(clip, labels=LABELS).status_code == 500
        assert server.classify(clip, labels=LABELS).status_code == 200


def test_numbers_that_are_none_are_no_answer(clip: bytes) -> None:
    runtime = fake_runtime()
    with running(runtime) as server:
        score = runtime.score
        runtime.score = lambda *a: score(*a) * float("nan")  # type: ignore[method-assign]
        response = server.classify(clip, labels=LABELS)
    assert response.status_code == 500
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert response.headers["x-content-type-options"] == "nosniff"
