"""Questions as JSON: the same answers as forms get, within bounds that hold before decoding."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from service.api.asking import body_limits
from service.api.body import read_body
from service.api.json_body import JsonBody, JsonReader
from service.api.json_fields import body_of
from service.contract.body import ClassifyBody, ClipBody
from service.contract.errors import ApiError
from service.contract.timeline import TimelineBody
from service.settings import Settings
from tests.conftest import ROOT, missing
from tests.service.conftest import RunningServer, fake_runtime, running

LIMIT = 300_000  # bytes of a body
LABELS = ["a café", "one, two", '["three"]']
KIND = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(fake_runtime(), max_labels=200, max_upload_bytes=LIMIT) as started:
        yield started


@pytest.fixture(scope="module")
def data(clip: bytes) -> str:
    return base64.b64encode(clip).decode()


def ask(server: RunningServer, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes | str) else json.dumps(body)
    return server.client.post("/v1/classify", content=content, headers=KIND)


def predictions(answer: httpx.Response) -> Any:
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def test_json_is_answered_as_a_form(server: RunningServer, clip: bytes, data: str) -> None:
    fields = {"top_k": 2, "start": 0.25, "end": 1.5, "views": 2, "frame_rule": "keyframes"}
    question = {"labels": LABELS, "templates": ["a video of {}", "{}"], **fields}
    form = server.classify(
        clip,
        labels=json.dumps(LABELS),
        template=json.dumps(question["templates"]),
        **{name: str(value) for name, value in fields.items()},
    )
    answer = ask(server, {"video": {"data": data}, **question})
    assert predictions(answer) == predictions(form)
    known = ask(server, {"labels": LABELS, "video": {"id": answer.json()["video_id"]}})
    assert known.json()["cache"]["video"] == "hit"


def test_base64_as_programs_write_it(server: RunningServer, clip: bytes, data: str) -> None:
    lines = json.dumps(base64.encodebytes(clip).decode())
    wanted = predictions(ask(server, {"video": {"data": data}, "labels": ["a", "b"]}))
    for written in (
        f'"{data}"',
        lines,
        lines.replace("\\n", "\\r\\n"),
        f'"{data}"'.replace("/", "\\/"),
        f'"{data}"'.replace("+", "\\u002B").replace("=", "\\u003d"),
    ):
        for body in (
            f'{{"video":{{"data":{written}}},"labels":["a","b"],"top_k":null}}',
            f' {{ "labels" : [ "a" , "b" ] , "video" : {{ "data" : {written} }} }}\n',
        ):
            assert predictions(ask(server, body)) == wanted


def test_a_body_may_be_cut_anywhere(tmp_path: Any) -> None:
    limits = replace(body_limits(Settings(), ClassifyBody), directory=tmp_path)
    text = b'{"l\\"x":["a\\\\","\\u00e9{"],"video":{"data":"QU\\u004aD\\/+8="},"z":{"data":"x"}}'
    rest = b'{"l\\"x":["a\\\\","\\u00e9{"],"video":{"data":""},"z":{"data":"x"}}'
    for cut in range(len(text) + 1):
        for step in (1, len(text)):
            reader = JsonReader(limits)
            reader.write(text[:cut])
            for at in range(cut, len(text), step):
                reader.write(text[at : at + step])
            body = reader.finish()
            assert body.text == rest
            assert body.upload is not None
            assert body.upload.file.read() == base64.b64decode("QUJD/+8=")
            body.close()


@pytest.mark.parametrize("behind", [("BBBB",), ("BB", "BB"), (" ", "BBBB"), ("", "B", "BBB")])
def test_nothing_comes_behind_padding_however_the_body_is_cut(
    tmp_path: Any, behind: tuple[str, ...]
) -> None:
    limits = replace(body_limits(Settings(), ClassifyBody), directory=tmp_path)

    def read(*pieces: str) -> None:
        for piece in pieces:
            reader.write(piece.encode())

    with contextlib.closing(JsonReader(limits)) as reader, pytest.raises(ApiError, match="base64"):
        read('{"video":{"data":"AAA=', *behind, '"}}')


# --- bounds -------------------------------------------------------------------------------------


def body_of_size(size: int, clip: bytes) -> bytes:
    """A question of exactly this size, its clip filled up with what a decoder passes over."""
    empty = len(json.dumps({"labels": ["a", "b"], "video": {"data": ""}}))
    room = size - empty
    content = clip + b"\0" * (room // 4 * 3 - len(clip))
    blanks = " " * (room % 4)
    question = {"labels": ["a", "b"], "video": {"data": base64.b64encode(content).decode()}}
    return (json.dumps(question) + blanks).encode()


@pytest.mark.parametrize("over", [0, 1])
def test_the_limit_holds_for_the_body_as_it_is_sent(
    server: RunningServer, clip: bytes, over: int
) -> None:
    body = body_of_size(LIMIT + over, clip)
    assert len(body) == LIMIT + over
    answer = ask(server, body)
    told = server.client.post("/v1/classify", content=iter([body]), headers=KIND)
    for response in (answer, told):
        assert response.status_code == (413 if over else 200), response.text
        if over:
            assert response.json()["code"] == "upload_too_large"


def test_nothing_is_read_far_beyond_the_limit(clip: bytes) -> None:
    limits = body_limits(Settings(max_upload_bytes=LIMIT), ClassifyBody)
    body, sent = body_of_size(3 * LIMIT, clip), 0
    piece = 64 << 10  # what a connection hands on at a time

    async def stream() -> AsyncIterator[bytes]:
        nonlocal sent
        for first in range(0, len(body), piece):
            sent += len(body[first : first + piece])
            yield body[first : first + piece]

    with pytest.raises(ApiError) as refused:
        asyncio.run(read_body(stream(), KIND, limits))
    assert refused.value.code == "upload_too_large"
    assert LIMIT < sent <= LIMIT + piece
    length = {"content-length": str(LIMIT + 1)}
    with pytest.raises(ApiError):
        asyncio.run(read_body(stream(), {**KIND, **length}, limits))
    assert sent <= LIMIT + piece  # and where the size is told, nothing


def test_what_is_no_clip_is_bounded_too(server: RunningServer) -> None:
    with running(fake_runtime(), max_text_bytes=1000, max_labels=10) as small:
        for body in (
            {"video": {"data": "AAAA"}, "labels": ["x" * 1000]},
            {"video": {"url": "x" * 1000}},
            "[" * 1001,
            '{"' + "x" * 1000,
        ):
            assert ask(small, body).status_code in (400, 413)
        assert ask(small, {"video": {"id": "0" * 32}, "labels": ["x" * 1000]}).status_code == 413
    many = {"video": {"id": "0" * 32}, "labels": [{} for _ in range(2000)]}
    assert ask(server, many).json()["code"] == "too_many_parts"


# --- mistakes -----------------------------------------------------------------------------------

ID = {"video": {"id": "0" * 32}}
TWO = {"labels": ["a", "b"]}
MISTAKES: list[tuple[Any, str, str]] = [
    ("", "malformed_request", "not JSON"),
    ("{", "malformed_request", "not JSON"),
    ("[" * 100, "malformed_request", "levels deep"),
    ('{"video": {"data": "AAAA', "malformed_request", "within video.data"),
    ('{"video": {"data": "AAAA"}, "labels": ["a"]} x', "malformed_request", "not JSON"),
    ('{"top_k": ' + "9" * 5000 + "}", "malformed_request", "not JSON"),
    (b'{"labels": ["\xff"]}', "malformed_request", "UTF-8"),
    ([1], "malformed_request", "no object"),
    (TWO, "missing_field", "video is missing"),
    ({"video": {}, **TWO}, "missing_field", "video.data"),
    ({"video": {"data": "", "id": "0" * 32}, **TWO}, "unknown_video_id", "no longer held"),
    ({"video": {"data": "AAAA", "id": "0" * 32}, **TWO}, "bad_field", "in one way"),
    ({"video": {"data": ""}, **TWO}, "bad_field", "empty file"),
    ({"video": {"data": None}, **TWO}, "missing_field", "video.data"),
    ({"video": {"data": 5}, **TWO}, "bad_field", "video.data: input should be a valid string"),
    ({"video": "AAAA", **TWO}, "bad_field", "video is an object"),
    ({"video": ["AAAA"], **TWO}, "bad_field", "video"),
    ({"video": {"data": "AAA"}, **TWO}, "bad_field", "not base64"),
    ({"video": {"data": "AAA*"}, **TWO}, "bad_field", "not base64"),
    ({"video": {"data": "AA==AAAA"}, **TWO}, "bad_field", "not base64"),
    ({"video": {"data": "A\\\\A"}, **TWO}, "bad_field", "not base64"),
    ({"video": {"data": "A\u00e9AA"}, **TWO}, "bad_field", "not base64"),
    ({"video": {"data": "data:video/mp4;base64,AAAA"}, **TWO}, "bad_field", "behind its comma"),
    ({"video": {"data": "AAAA"}, **TWO}, "not_a_video", "video"),
    ({"video": {"url": "https://x.example/c.mp4"}, **TWO}, "video_url_disabled", "not enabled"),
    ({"video": {"id": "x"}, **TWO}, "bad_field", "not one of ours"),
    ({"video": {"path": "x"}, **TWO}, "unknown_field", "'path'"),
    ('{"video": {"data": "AAAA"}, "video": {"data": "AAAA"}}', "duplicate_field", "video.data"),
    ('{"video": {"id": "x"}, "top_k": 1, "top_k": 1}', "duplicate_field", "top_k"),
    ('{"vide\\u006f": {"data": "AAAA"}, "labels": ["a"]}', "malformed_request", "escapes"),
    ({**ID, "labels": []}, "empty_labels", "give labels"),
    ({**ID, "labels": "a, b"}, "bad_field", "labels: input should be a valid list"),
    ({**ID, "labels": ["a", 1]}, "bad_field", "labels.1"),
    ({**ID, "labels": ["a", ""]}, "empty_label", "label 2"),
    ({**ID, "labels": ["a", "A"]}, "duplicate_label", "labels 1 and 2"),
    ({**ID, "labels": ["\ud800"]}, "bad_field", "surrogate"),
    ({**ID, "label_set": "\ud800"}, "bad_field", "surrogate"),
    ({**ID, "\ud800": 1}, "bad_field", "surrogate"),
    ({**ID, **TWO, "label_set": "x"}, "bad_field", "one or the other"),
    ({**ID, **TWO, "template": ["{}"]}, "unknown_field", "did you mean templates?"),
    ({**ID, **TWO, "templates": ["x"]}, "bad_template", "{}"),
    ({**ID, **TWO, "templates": ["{}"] * 17}, "too_many_templates", "17"),
    ({**ID, **TWO, "top_k": 0}, "bad_field", "top_k must be a whole number from 1 to 200"),
    ({**ID, **TWO, "top_k": "3"}, "bad_field", "top_k"),
    ({**ID, **TWO, "top_k": True}, "bad_field", "top_k"),
    ({**ID, **TWO, "top_k": 10**400}, "bad_field", "top_k"),
    ({**ID, **TWO, "start": -1}, "bad_field", "seconds, 0 or more"),
    ({**ID, **TWO, "start": 2, "end": 1}, "start_past_end", "after start"),
    ({**ID, **TWO, "end": float("inf")}, "bad_field", "end"),
    ({**ID, **TWO, "end": float("nan")}, "bad_field", "end"),
    ({**ID, **TWO, "frame_rule": "best"}, "bad_field", "exact"),
]


@pytest.mark.parametrize("name", ["labels", "templates"])
@pytest.mark.parametrize("kind", [ClassifyBody, TimelineBody])
def test_of_many_mistakes_the_first_is_noted(kind: type[ClipBody], name: str) -> None:
    """A list of them all would be made in one go, for which everybody waits."""
    with pytest.raises(ValidationError) as error:
        kind.model_validate({name: ["a"] + 1000 * [1]})
    assert error.value.error_count() == 1


def test_of_many_unknown_fields_the_first_is_named() -> None:
    fields = {f"x{n}": n for n in range(1000)}
    for wrong in (fields, {"video": fields}):
        with pytest.raises(ApiError, match="x0") as refused:
            body_of(wrong, ClassifyBody)
        assert refused.value.code == "unknown_field"
        assert refused.value.__context__ is None


@pytest.mark.parametrize(("body", "code", "detail"), MISTAKES)
def test_a_mistake_is_told(server: RunningServer, body: Any, code: str, detail: str) -> None:
    answer = ask(server, body)
    problem = answer.json()
    assert (problem["code"], answer.status_code) == (code, problem["status"]), problem
    assert detail in problem["detail"]


def test_no_upload_stays_behind(tmp_path: Any) -> None:
    limits = replace(body_limits(Settings(), ClassifyBody), directory=tmp_path)

    async def stream() -> AsyncIterator[bytes]:
        yield b'{"video": {"data": "AAAA'

    with pytest.raises(ApiError):
        asyncio.run(read_body(stream(), KIND, limits))
    assert isinstance(JsonReader(limits).finish(), JsonBody)
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_templates_in_a_form(server: RunningServer, clip: bytes) -> None:
    array = server.classify(clip, labels='["a","b"]', template='["a {}", "the {}"]')
    repeated = server.classify(clip, labels=["a", "b"], template=["a {}", "the {}"])
    assert predictions(array) == predictions(repeated)
    assert server.classify(clip, labels="a", template="[{}]").status_code == 200
    refused = server.classify(clip, labels="a", template='["\\ud800 {}"]')
    assert refused.json()["code"] == "bad_template"


def test_predictions_say_where_their_labels_stand(server: RunningServer, clip: bytes) -> None:
    labels = [f"label {i}" for i in range(30)]
    for options in ({}, {"top_k": 3}, {"shortlist": 5}):
        answer = server.classify(clip, labels=labels, **options)
        for one in predictions(answer):
            assert labels[one["index"]] == one["label"]


def test_the_commands_of_the_page() -> None:
    """docs/api.md: both give one answer, and it is right."""
    if shutil.which("curl") is None:
        missing("curl")
    (block,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "api.md").read_text(), re.DOTALL)
    here = "http://127.0.0.1:8000"
    assert block.count(here) == 2
    with running() as real:
        commands = block.replace(here, real.base_url).replace("-s http", "-s -w '\\n' http")
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", commands],
            cwd=ROOT, capture_output=True, check=True,
        )  # fmt: skip
    form, body = (json.loads(line) for line in done.stdout.splitlines())
    assert form["predictions"] == body["predictions"]
    assert form["predictions"][0]["label"] == "a red circle moving left"
