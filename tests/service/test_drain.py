"""A stop under load: what was accepted is answered, what is new is refused, and then it ends."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.service.conftest import clip_bytes
from tests.service.steady_load import SteadyLoad, statuses

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def server(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A ready server process and its address."""
    command = [sys.executable, "-m", "service", "--port", "0", "--log-level", "error", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://[\d.:]+", process.stdout.readline())
            assert found is not None
            yield process, found[0]
        finally:
            process.kill()


def upload(client: httpx.Client, question: int) -> httpx.Response:
    """A new clip each time, so that every request is decoded and encoded."""
    clip = CLIPS[question % len(CLIPS)] + b"\0" * question
    labels = [f"label {question % 7}", "another"]
    return client.post("/classify", files={"video": ("c", clip)}, data={"labels": labels})


CLIENTS = 6
NO_ANSWER_BEGUN = (
    "ConnectError",
    "ReadError",
    "WriteError",
    "RemoteProtocolError: Server disconnected without sending a response",
)
CLIPS = [clip_bytes(shade) for shade in range(3)]
# The beginning of a request that is accepted and not answered before its body has come.
HEAD = (
    b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
    b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
)


def test_a_stop_under_load_loses_nothing_that_was_accepted() -> None:
    with server("--max-in-flight", "16") as (process, url):
        with SteadyLoad(url, upload, clients=CLIENTS) as load:
            load.more(20)
            told = time.perf_counter()
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0
            load.more(6)
        before = [sample for sample in load.samples if sample.began < told]
        # One of each client may have been on its way in when the signal came: that one is refused.
        late = [sample for sample in before if sample.status == 503]
        assert statuses(before) == Counter({200: len(before) - len(late)}) + Counter(
            {503: len(late)}
        )
        assert len(late) <= CLIENTS
        assert {sample.body["code"] for sample in late} <= {"draining"}
        after = [sample for sample in load.samples if sample.began >= told]
        assert {s.body["code"] for s in after if s.status == 503} <= {"draining"}
        unanswered = [s for s in after if s.status == 0]
        assert {s.status for s in after} <= {200, 503, 0}
        # At the very end a connection is refused, reset, or closed before its request was read;
        # none breaks off within an answer.
        for sample in unanswered:
            assert sample.transport_error.startswith(NO_ANSWER_BEGUN), sample.transport_error
        assert unanswered, "the door must be closed in the end"


def test_while_it_drains_it_says_so_and_closes_kept_connections() -> None:
    with server() as (process, url), httpx.Client(base_url=url, timeout=None) as kept:
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as unfinished:
            unfinished.sendall(HEAD)  # an accepted request keeps it from ending
            while "xclip_in_flight 1.0" not in kept.get("/metrics").text:
                pass
            process.send_signal(signal.SIGTERM)
            while (ready := kept.get("/readyz")).status_code == 200:
                pass
            refused = kept.post("/classify", data={"labels": "a"})
            assert (ready.status_code, ready.json()["code"]) == (503, "draining")
            assert (refused.status_code, refused.json()["code"]) == (503, "draining")
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.headers["connection"] == "close"
            assert kept.get("/healthz").status_code == 200
        assert process.wait() == 0


def test_a_second_signal_ends_it_at_once() -> None:
    with (
        server("--shutdown-grace-s", "600", "--upload-idle-timeout-s", "600") as (
            process,
            url,
        ),
        httpx.Client(base_url=url, timeout=None) as client,
    ):
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as unfinished:
            unfinished.sendall(HEAD)
            while "xclip_in_flight 1.0" not in client.get("/metrics").text:
                assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            while client.get("/readyz").status_code == 200:
                pass
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0
