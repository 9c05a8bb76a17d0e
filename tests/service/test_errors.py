"""Every error of the design's table over HTTP: status, code, and a detail that names the field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.api.problems import STATUS
from service.contract.errors import ErrorCode
from tests.service.conftest import RunningServer, clip_bytes, fake_runtime, running

MAX_BYTES = 300_000


@pytest.fixture(scope="module")
def strict() -> Iterator[RunningServer]:
    """A server with tight limits and no network behind it."""
    with running(
        fake_runtime(),
        max_labels=5,
        max_label_chars=200,
        max_templates=2,
        max_upload_bytes=MAX_BYTES,
        max_side=320,
        max_frames=100,
        max_duration_s=60.0,
    ) as server:
        yield server


CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("no labels", {}, "empty_labels", "labels"),
    ("empty array", {"labels": "[]"}, "empty_labels", "labels"),
    ("empty label", {"labels": '["a", "  "]'}, "empty_label", "label 2"),
    ("control characters", {"labels": ["\x00\x1f"]}, "empty_label", "label 1"),
    ("duplicate", {"labels": ["Dog", "cat", " dog "]}, "duplicate_label", "labels 1 and 3"),
    ("too many", {"labels": list("abcdef")}, "too_many_labels", "limit is 5"),
    ("too many characters", {"labels": ["x" * 201]}, "label_too_long", "limit is 200"),
    ("too many tokens", {"labels": ["x " * 90]}, "label_too_long", "tokens"),
    ("broken array", {"labels": '["a", '}, "bad_field", "labels"),
    ("array of numbers", {"labels": "[1, 2]"}, "bad_field", "array of strings"),
    ("Python's repr", {"labels": "['a', 'b']"}, "bad_field", "double quotes"),
    ("object", {"labels": '{"labels": ["a"]}'}, "bad_field", "array of labels alone"),
    ("only an empty row", {"labels": ""}, "empty_labels", "labels"),
    ("too many lines", {"labels": "a\nb\nc\nd\ne\nf"}, "too_many_labels", "limit is 5"),
    ("a repeated line", {"labels": "a\nb\r\nA"}, "duplicate_label", "labels 1 and 3"),
    ("nested array", {"labels": "[" * 500}, "bad_field", "labels"),
    ("half a surrogate", {"labels": '["\\ud800"]'}, "bad_field", "label 1"),
    ("no braces", {"labels": ["a"], "template": "a photo"}, "bad_template", "{}"),
    ("two braces", {"labels": ["a"], "template": "{} and {}"}, "bad_template", "{}"),
    ("templates", {"labels": ["a"], "template": ["{}"] * 3}, "too_many_templates", "limit is 2"),
    ("top_k zero", {"labels": ["a"], "top_k": "0"}, "bad_field", "top_k"),
    ("top_k text", {"labels": ["a"], "top_k": "many"}, "bad_field", "top_k"),
    ("top_k twice", {"labels": ["a"], "top_k": ["1", "2"]}, "duplicate_field", "top_k"),
    ("top_k with half", {"labels": ["a"], "top_k": "2.5"}, "bad_field", "top_k"),
    ("top_k undefined", {"labels": ["a"], "top_k": "undefined"}, "bad_field", "leave the field"),
    ("comma", {"labels": ["a"], "start": "0,5"}, "bad_field", "write 0.5 with a point"),
    ("clock", {"labels": ["a"], "start": "00:01:01.5"}, "bad_field", "write 61.5 for 00:01:01.5"),
    ("end null", {"labels": ["a"], "end": "null"}, "bad_field", "leave the field out"),
    ("underscore", {"labels": ["a"], "end": "1_0"}, "bad_field", "end"),
    ("views", {"labels": ["a"], "views": "99"}, "bad_field", "views"),
    ("start negative", {"labels": ["a"], "start": "-1"}, "bad_field", "start"),
    ("start infinite", {"labels": ["a"], "start": "inf"}, "bad_field", "start"),
    ("end text", {"labels": ["a"], "end": "soon"}, "bad_field", "end"),
    ("end before start", {"labels": ["a"], "start": "3", "end": "2"}, "start_past_end", "end"),
    ("start past the end", {"labels": ["a"], "start": "9"}, "start_past_end", "start"),
    ("unknown option", {"labels": ["a"], "topk": "1"}, "unknown_field", "topk"),
    ("video_url", {"labels": ["a"], "video_url": "http://x"}, "video_url_disabled", "video_url"),
    ("both", {"labels": ["a"], "label_set": "k400"}, "bad_field", "label_set"),
    ("no such set", {"label_set": "nope"}, "unknown_label_set", "nope"),
    ("both videos", {"labels": ["a"], "video_id": "0" * 32}, "bad_field", "video_id"),
]


def check(response: Any, code: ErrorCode, hint: str) -> None:
    assert response.status_code == STATUS[code], response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["code"] == code, body
    assert hint in body["detail"], body
    assert body["status"] == response.status_code
    assert body["request_id"] == response.headers["x-request-id"]
    assert not any(leak in response.text for leak in ("/tmp", "/home", ".py", "Traceback"))


@pytest.mark.parametrize(
    ("fields", "code", "hint"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_fields(
    strict: RunningServer, clip: bytes, fields: dict[str, Any], code: ErrorCode, hint: str
) -> None:
    check(strict.classify(clip, **fields), code, hint)


def test_no_video(strict: RunningServer) -> None:
    check(strict.classify(labels='["a"]', top_k="1"), "missing_field", "video")


@pytest.mark.parametrize(
    ("video_id", "code"), [("0" * 32, "unknown_video_id"), ("../etc", "bad_field")]
)
def test_video_ids(strict: RunningServer, video_id: str, code: ErrorCode) -> None:
    check(strict.classify(labels='["a"]', video_id=video_id), code, "video_id")


def test_sampling_belongs_to_the_upload(strict: RunningServer, clip: bytes) -> None:
    held = strict.classify(clip, labels=["a"]).json()["video_id"]
    check(strict.classify(labels='["a"]', video_id=held, views="2"), "bad_field", "views")


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "bad_field"),
        (b"just some text", "not_a_video"),
        (b"\x00" * 5000, "not_a_video"),
        (clip_bytes()[:300], "video_undecodable"),
        (clip_bytes(size=640), "resolution_too_large"),
        (clip_bytes(frames=120), "too_many_frames"),
    ],
    ids=["empty", "text", "zeros", "cut", "large", "long"],
)
def test_files(strict: RunningServer, content: bytes, code: ErrorCode) -> None:
    response = strict.classify(content, labels=["a"])
    if code in ("not_a_video", "video_undecodable"):
        assert response.status_code in (415, 422)
    else:
        check(response, code, "")


def test_a_body_over_the_limit_is_refused(strict: RunningServer) -> None:
    response = strict.classify(b"\x00" * (MAX_BYTES + 1), labels=["a"])
    check(response, "upload_too_large", str(MAX_BYTES))


@pytest.mark.parametrize("kind", ["application/xml", "multipart/form-data", "text/plain", ""])
def test_other_content_types(strict: RunningServer, kind: str) -> None:
    response = strict.client.post("/classify", content=b"{}", headers={"content-type": kind})
    hint = "boundary" if kind.startswith("multipart") else "multipart"
    check(response, "unsupported_content_type", hint)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b\r\n\r\nno headers\r\n--b--\r\n",
        b'--b\r\ncontent-disposition: form-data; name="labels"\r\n\r\nnever ends',
        b"garbage before any boundary",
        b"--b\r\nx: y\r\n\r\n1\r\n--b--\r\n",
        b'--b\r\ncontent-disposition: form-data; name="labels"\r\n\r\n\xff\xfd\r\n--b--\r\n',
    ],
)
def test_malformed_forms(strict: RunningServer, body: bytes) -> None:
    response = strict.client.post(
        "/classify", content=body, headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert response.status_code in (400, 422), response.text
    assert response.json()["code"] in ("malformed_request", "bad_field")


def test_other_addresses_and_methods(strict: RunningServer) -> None:
    check(strict.client.get("/nowhere"), "not_found", "/docs")
    check(strict.client.get("/classify"), "method_not_allowed", "takes POST")
    check(strict.client.get("/labels/nope"), "unknown_label_set", "nope")


def test_request_ids_are_taken_and_given_back(strict: RunningServer) -> None:
    assert (
        strict.client.get("/healthz", headers={"x-request-id": "abc-1"}).headers["x-request-id"]
        == "abc-1"
    )
    odd = strict.client.get("/healthz", headers={"x-request-id": "a b\tc"}).headers["x-request-id"]
    assert odd != "a b\tc"


def test_an_unexpected_failure_says_nothing_about_itself(clip: bytes) -> None:
    runtime = fake_runtime()
    with running(runtime) as server:

        def broken(*_: Any) -> None:
            raise RuntimeError("secret /path")

        runtime.score = broken  # type: ignore[assignment,method-assign]
        response = server.classify(clip, labels=["a"])
        assert response.status_code == 500
        assert "secret" not in response.text
        assert response.json()["code"] == "internal_error"


def test_a_full_queue_is_refused_at_once_with_a_time_to_come_back(clip: bytes) -> None:
    with running(fake_runtime(), max_in_flight=1) as server:
        with server.server.admission.work("somebody"):
            response = server.classify(clip, labels=["a"])
        check(response, "queue_full", "later")
        assert int(response.headers["retry-after"]) >= 1
        assert server.classify(clip, labels=["a"]).status_code == 200


def test_a_missed_deadline(clip: bytes) -> None:
    with running(fake_runtime(), request_timeout_s=1e-4) as server:
        check(server.classify(clip, labels=["a"]), "deadline_passed", "within")


def test_no_corpus_file_gives_a_server_error(corpus: list[Any]) -> None:
    with running(fake_runtime()) as server:
        for entry in corpus[::7]:
            name = entry.entry.get("upload_filename", entry.name)
            response = server.client.post(
                "/classify",
                files={"video": (name, entry.path.read_bytes())},
                data={"labels": ["a", "b"]},
            )
            assert response.status_code < 500, (entry.name, response.text)
            if entry.expect["outcome"] == "accept":
                assert response.status_code == 200, (entry.name, response.text)
            if entry.expect["outcome"] == "reject":
                assert response.status_code in entry.expect["http"], (entry.name, response.text)
            assert str(Path(__file__).parent.parent) not in response.text
