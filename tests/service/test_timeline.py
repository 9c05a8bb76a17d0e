"""`POST /v1/timeline`: labels over the length of a video."""

from __future__ import annotations

import base64
import concurrent.futures
import io
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest

from service.api.media import preferred
from service.contract.timeline import MOST_TOP_K
from service.settings import DEMO_BUNDLE
from tests.conftest import ROOT, missing
from tests.service.conftest import RunningServer, running, until
from tests.service.test_open_set import calibrate_by_hand

LABELS = ["a red circle moving left", "a blue square growing", "a green triangle moving up"]


def uneven_video(seconds: float = 6, seed: int = 0, size: int = 64) -> bytes:
    """A clip whose frames are 20 to 120 milliseconds apart; its colour changes half-way."""
    rng = np.random.default_rng(seed)
    target, at, number = io.BytesIO(), 0, 0
    with av.open(target, "w", format="matroska") as output:
        stream: Any = output.add_stream("libx264", rate=25, options={"g": "12", "bf": "2"})
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        while at < 1000 * seconds:
            picture = np.full((size, size, 3), (250, 20, 20), np.uint8)
            if at > 500 * seconds:
                picture[:] = (20, 20, 250)
            picture[:, (3 * number) % size :][:, :8] = 255 - number % 200
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            output.mux(stream.encode(frame))
            at, number = at + int(rng.integers(20, 120)), number + 1
        output.mux(stream.encode(None))
    return target.getvalue()


VIDEO = uneven_video()


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running() as started:
        yield started


def ask(server: RunningServer, video: bytes = VIDEO, **fields: Any) -> httpx.Response:
    data = {"labels": json.dumps(LABELS), **{name: str(v) for name, v in fields.items()}}
    return server.client.post("/v1/timeline", files={"video": ("c", video)}, data=data)


def timeline(server: RunningServer, **fields: Any) -> dict[str, Any]:
    response = ask(server, **fields)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def refused(response: httpx.Response) -> tuple[int, str, str]:
    problem = response.json()
    return response.status_code, problem["code"], problem["detail"]


@pytest.mark.parametrize(
    "fields",
    [{}, {"open_set": "true"}, {"frame_rule": "keyframes"}, {"template": "a film of {}"}],
)
def test_a_window_is_answered_as_a_clip_with_its_start_and_end(
    server: RunningServer, fields: dict[str, str]
) -> None:
    answer = timeline(server, window_s=1.5, stride_s=0.75, **fields)
    assert len(answer["windows"]) == 7
    left_s = answer["video"]["duration_s"] - answer["windows"][-1]["end_s"]
    assert -1e-3 <= left_s <= 0.15
    asked = {"frame_rule": "exact", **fields}
    for window in answer["windows"]:
        times = {"start": str(window["start_s"]), "end": str(window["end_s"])}
        clip = server.classify(VIDEO, labels=LABELS, **asked, **times).json()
        assert clip["video"]["frame_times_s"] == window["frame_times_s"]
        assert [p["label"] for p in clip["predictions"]] == [
            p["label"] for p in window["predictions"]
        ]
        for mine, its in zip(window["predictions"], clip["predictions"], strict=True):
            assert mine.keys() == its.keys()
            assert mine["logit"] == pytest.approx(its["logit"], abs=1e-5)
            assert mine["score"] == pytest.approx(its["score"], abs=1e-5)
        if "none_of_these" in clip:
            assert window["none_of_these"] == pytest.approx(clip["none_of_these"], abs=1e-5)


def test_json_forms_and_aliases_answer_alike(server: RunningServer) -> None:
    asked = {"window_s": 2, "stride_s": 1, "top_k": 1, "start": 1.0, "end": 5.0}
    video = {"data": base64.b64encode(VIDEO).decode()}
    posted = server.client.post("/timeline", json={"video": video, "labels": LABELS, **asked})
    assert posted.status_code == 200, posted.text
    form, body = timeline(server, **asked), posted.json()
    assert form["windows"] == body["windows"]
    assert form["segments"] == body["segments"]
    assert [len(w["predictions"]) for w in body["windows"]] == [1, 1, 1]
    assert (body["windows"][0]["start_s"], body["windows"][-1]["end_s"]) == (1, 5)
    named = server.client.post(
        "/v1/timeline", files={"video": ("c", VIDEO)}, data={"label_set": "labels"}
    ).json()
    assert [len(w["predictions"]) for w in named["windows"]] == [5, 5]


def test_lines_make_the_answer(server: RunningServer) -> None:
    whole = timeline(server, window_s=1, stride_s=1)
    response = server.client.post(
        "/v1/timeline",
        files={"video": ("c", VIDEO)},
        data={"labels": LABELS, "window_s": "1", "stride_s": "1"},
        headers={"Accept": "application/x-ndjson"},
    )
    assert response.headers["content-type"].startswith("application/x-ndjson")
    first, *windows, last = map(json.loads, response.text.splitlines())
    assert [first.pop("kind"), last.pop("kind")] == ["facts", "end"]
    assert {window.pop("kind") for window in windows} == {"window"}
    assert windows == whole["windows"]
    assert first.pop("windows") == len(windows)
    del last["timing_ms"], whole["timing_ms"], last["warnings"]
    assert {**first, **last, "windows": windows} == whole


def test_a_window_is_sent_before_the_next_is_encoded(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = server.server.engine.thread
    encoder = Encoder(server, monkeypatch)
    encoder.holds_from = 2
    with server.client.stream(
        "POST",
        "/v1/timeline",
        files={"video": ("c", VIDEO)},
        data={"labels": LABELS, "window_s": "0.5", "stride_s": "0.25"},
        headers={"Accept": "application/x-ndjson"},
    ) as response:
        lines = response.iter_lines()
        assert json.loads(next(lines))["kind"] == "facts"
        assert json.loads(next(lines))["kind"] == "window"
        until(lambda: encoder.calls == 2)
    encoder.goes_on.set()
    # The client has hung up: nothing of it is at work any more.
    pool = server.server.engine.pool
    until(lambda: not pool.running and not thread.waiting and not server.server.admission.in_flight)
    assert timeline(server)["windows"]


@pytest.mark.parametrize(
    ("fields", "code", "hint"),
    [
        ({"window_s": 0}, "bad_field", "from 0.1"),
        ({"window_s": "0.001"}, "bad_field", "from 0.1"),
        ({"window_s": "-1"}, "bad_field", "seconds"),
        ({"window_s": "nan"}, "bad_field", "seconds"),
        ({"window_s": "1e9"}, "bad_field", "1800"),
        ({"stride_s": 0}, "bad_field", "above 0"),
        ({"stride_s": "-2"}, "bad_field", "seconds"),
        ({"stride_s": "0.001"}, "bad_field", "0.25 or more"),
        ({"stride_s": "1e9"}, "bad_field", "1800"),
        ({"window_s": "1,5"}, "bad_field", "1.5 with a point"),
        ({"views": 2}, "bad_field", "stride_s"),
        ({"top_k": MOST_TOP_K + 1}, "bad_field", "100"),
        ({"start": 100}, "start_past_end", "last frame"),
        ({"scores": "sigmoid"}, "not_calibrated", "calibrate"),
        ({"explain": "frames"}, "unknown_field", ""),
    ],
)
def test_what_cannot_be_asked_is_refused(
    server: RunningServer, fields: dict[str, Any], code: str, hint: str
) -> None:
    status, given, detail = refused(ask(server, **fields))
    assert (status, given) == (422, code)
    assert hint in detail


@pytest.mark.parametrize("value", ["NaN", "Infinity", "true", '"2"', "[]"])
def test_json_numbers_are_numbers(server: RunningServer, value: str) -> None:
    body = f'{{"video": {{"data": "AAAA"}}, "labels": ["a", "b"], "window_s": {value}}}'
    response = server.client.post(
        "/v1/timeline", content=body, headers={"Content-Type": "application/json"}
    )
    assert refused(response)[1] == "bad_field"


def test_a_video_id_has_no_frames(server: RunningServer) -> None:
    known = server.classify(VIDEO, labels=LABELS).json()["video_id"]
    status, code, detail = refused(
        server.client.post("/v1/timeline", json={"video": {"id": known}, "labels": LABELS})
    )
    assert (status, code) == (422, "bad_field")
    assert "send it again" in detail


def test_a_video_shorter_than_a_window_is_one_window(server: RunningServer) -> None:
    answer = timeline(server, window_s=60)
    (window,) = answer["windows"]
    whole = server.classify(VIDEO, labels=LABELS, frame_rule="exact").json()
    assert window["predictions"][0]["logit"] == pytest.approx(
        whole["predictions"][0]["logit"], abs=1e-5
    )


def test_more_windows_than_allowed_are_refused_with_a_stride_that_fits() -> None:
    with running(max_windows=4) as server:
        status, code, detail = refused(ask(server, window_s=1, stride_s=0.5))
        assert (status, code) == (422, "too_many_windows")
        stride = detail.split("stride_s of ")[1].split()[0]
        assert len(timeline(server, window_s=1, stride_s=stride)["windows"]) <= 4


def test_no_video_is_refused_before_and_with_lines(server: RunningServer) -> None:
    for accept in ("application/json", "application/x-ndjson"):
        response = server.client.post(
            "/v1/timeline",
            files={"video": ("c", b"no video at all" * 100)},
            data={"labels": LABELS},
            headers={"Accept": accept},
        )
        assert response.status_code == 415
        assert response.headers["content-type"] == "application/problem+json"


def test_the_commands_of_the_page(server: RunningServer) -> None:
    """docs/timeline.md: one JSON, and lines of JSON."""
    if shutil.which("curl") is None:
        missing("curl")
    page = (ROOT / "docs" / "timeline.md").read_text()
    marked = r"service/test_timeline.py::test_the_commands_of_the_page -->\n```sh\n(.*?)```"
    (block,) = re.findall(marked, page, re.DOTALL)
    commands = block.replace("http://127.0.0.1:8000", server.base_url)
    done = subprocess.run(
        ["bash", "-e", "-c", commands], cwd=ROOT, capture_output=True, check=True, text=True
    )
    whole, end = json.JSONDecoder().raw_decode(done.stdout)
    assert whole["segments"]
    kinds = [json.loads(line)["kind"] for line in done.stdout[end:].splitlines()]
    assert [kinds[0], {*kinds[1:-1]}, kinds[-1]] == ["facts", {"window"}, "end"]


@pytest.mark.parametrize(
    ("media", "begins"),
    [("text/csv", "start_s,end_s"), ("application/x-subrip", "1\n00:"), ("text/vtt", "WEBVTT\n")],
)
def test_segments_as_tables_and_subtitles(server: RunningServer, media: str, begins: str) -> None:
    response = server.client.post(
        "/v1/timeline",
        files={"video": ("c", VIDEO)},
        data={"labels": LABELS},
        headers={"Accept": f"{media}, application/json;q=0.5"},
    )
    assert response.headers["content-type"].split(";")[0] == media
    assert response.text.startswith(begins)


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("", "a/json"),
        ("*/*", "a/json"),
        ("a/*", "a/json"),
        ("text/html", "a/json"),
        ("a/lines", "a/lines"),
        ("A/Lines;q=0.9, */*;q=0.1", "a/lines"),
        ("a/lines;q=0, */*", "a/json"),
        ("a/lines;q=0.2, a/json;q=0.3", "a/json"),
        ("a/lines;q=x", "a/json"),
        (",;,q=1;=", "a/json"),
    ],
)
def test_the_form_of_an_answer_is_what_accept_prefers(accept: str, media: str) -> None:
    assert preferred(accept, ("a/json", "a/lines")) == media


# --- hang-ups, failures and many at once ----------------------------------------------------------


def begin(server: RunningServer, lines: bool, **fields: str) -> socket.socket:
    """Send a whole question, and read nothing of the answer."""
    request = server.client.build_request(
        "POST",
        "/v1/timeline",
        files={"video": ("c", VIDEO)},
        data={"labels": LABELS, "window_s": "0.5", "stride_s": "0.25", **fields},
        headers={"Accept": "application/x-ndjson" if lines else "application/json"},
    )
    body = request.read()
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    connection = socket.create_connection(("127.0.0.1", server.port))
    connection.sendall(f"POST /v1/timeline HTTP/1.1\r\n{head}\r\n".encode() + body)
    return connection


def is_idle(server: RunningServer) -> bool:
    pool = server.server.engine.pool
    return not (pool.running or pool.waiting or server.server.admission.in_flight)


class Encoder:
    """The video encoder of a server, which may be held up, or fail."""

    def __init__(self, server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batcher = server.server.engine._timelines.batcher
        self.encode = self.batcher._encode
        self.calls = 0
        self.fails_at: int | None = None
        self.holds_from = 1
        self.entered, self.goes_on = threading.Event(), threading.Event()
        monkeypatch.setattr(self.batcher, "_encode", self)

    def __call__(self, frames: Any) -> Any:
        self.calls += 1
        self.entered.set()
        if self.calls >= self.holds_from:
            self.goes_on.wait()
        if self.calls == self.fails_at:
            raise ArithmeticError("of the test")
        return self.encode(frames)


@pytest.mark.parametrize("lines", [True, False])
def test_hanging_up_ends_decoding_and_encoding(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, lines: bool
) -> None:
    encoder = Encoder(server, monkeypatch)
    with begin(server, lines):
        encoder.entered.wait()
        assert server.server.engine.pool.running == 1
    until(lambda: is_idle(server))  # though the encoder is still at it
    encoder.goes_on.set()
    until(lambda: not server.server.engine.thread.waiting)
    assert encoder.calls == 1


@pytest.mark.parametrize("work", ["encode_text", "score"])
def test_hanging_up_ends_what_is_done_with_labels(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    """Before anything is decoded, and once the first windows are encoded."""
    engine = server.server.engine
    entered, goes_on, run = threading.Event(), threading.Event(), getattr(engine.runtime, work)

    def held(*given: Any) -> Any:
        entered.set()
        goes_on.wait()
        return run(*given)

    monkeypatch.setattr(engine.runtime, work, held)
    with begin(server, lines=True, labels=f"a label to {work}"):
        entered.wait()
    until(lambda: is_idle(server))  # though the network is still at it
    goes_on.set()
    until(lambda: not engine.thread.waiting)


@pytest.mark.parametrize("lines", [True, False])
def test_hanging_up_gives_up_waiting(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch, lines: bool
) -> None:
    encoder = Encoder(server, monkeypatch)
    pool = server.server.engine.pool
    with begin(server, lines=True) as first:
        encoder.entered.wait()
        with begin(server, lines):
            until(lambda: pool.waiting == 1)
        until(lambda: not pool.waiting)
        encoder.goes_on.set()
        answer = b""
        while b'"kind":"end"' not in answer:
            answer += first.recv(1 << 16)
    until(lambda: is_idle(server))


def test_a_failure_after_the_first_line_is_the_last_line(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(server, monkeypatch)
    encoder.fails_at = 2
    encoder.goes_on.set()
    response = server.client.post(
        "/v1/timeline",
        files={"video": ("c", VIDEO)},
        data={"labels": LABELS},
        headers={"Accept": "application/x-ndjson", "X-Request-ID": "mine"},
    )
    assert response.status_code == 200
    *_, last = map(json.loads, response.text.splitlines())
    assert (last["kind"], last["code"], last["status"]) == ("problem", "internal_error", 500)
    assert last["request_id"] == "mine"
    assert "of the test" not in response.text
    counted = 'xclip_requests_total{code="internal_error",route="/timeline",status="200"} 1.0'
    until(lambda: counted in server.client.get("/metrics").text)
    assert timeline(server)["windows"]


def test_an_answer_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(timeline_timeout_s=0.5) as server:
        encoder = Encoder(server, monkeypatch)
        with begin(server, lines=True) as connection:
            answer = b""
            while b'"code":' not in answer:
                answer += connection.recv(1 << 16)
        # On a machine that is very busy decoding does not begin in this time either.
        assert b'"deadline_passed"' in answer or b'"decode_timeout"' in answer
        until(lambda: is_idle(server))
        encoder.goes_on.set()


def test_timelines_leave_clips_their_turns(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight at once, of one client who may hold them: each is answered, and clips in between."""
    encoder = Encoder(server, monkeypatch)
    with concurrent.futures.ThreadPoolExecutor(9) as many:
        asked = [
            many.submit(timeline, server, window_s=0.5, stride_s=0.1, top_k=1) for _ in range(8)
        ]
        until(lambda: server.server.engine.pool.waiting > 0)
        among = many.submit(server.classify, VIDEO, labels=LABELS, start="0.999")
        encoder.goes_on.set()
        clips = 0
        while not all(answer.done() for answer in asked):
            answer = server.classify(
                VIDEO, labels=[*LABELS, f"label {clips}"], start=f"0.{clips:03}"
            )
            assert answer.status_code == 200, answer.text
            clips += 1
    assert among.result().status_code == 200
    windows = [answer.result()["windows"] for answer in asked]
    assert all(one == windows[0] for one in windows)
    until(lambda: is_idle(server))


def test_sigmoid_scores_a_window_as_a_clip(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(DEMO_BUNDLE, bundle)
    calibrate_by_hand(bundle)
    with running(bundle=bundle) as server:
        asked = {"scores": "sigmoid", "open_set": "true", "top_k": "2"}
        answer = timeline(server, window_s=2, stride_s=2, **asked)
        for window in answer["windows"]:
            times = {"start": str(window["start_s"]), "end": str(window["end_s"])}
            clip = server.classify(
                VIDEO, labels=LABELS, frame_rule="exact", **asked, **times
            ).json()
            assert window["none_of_these"] == pytest.approx(clip["none_of_these"], abs=1e-5)
            for mine, its in zip(window["predictions"], clip["predictions"], strict=True):
                assert mine["label"] == its["label"]
                assert mine["score"] == pytest.approx(its["score"], abs=1e-5)
                assert mine["probability"] == pytest.approx(its["probability"], abs=1e-5)
