"""The OpenAPI document is true: requests made from it, right and wrong, get what it names."""

from __future__ import annotations

import base64
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.service.conftest import RunningServer, running

EXAMPLES = int(os.environ.get("XCLIP_TEST_SCHEMA_EXAMPLES", "60"))
CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
)


@pytest.fixture(scope="module")
def schema_server() -> Iterator[RunningServer]:
    with running() as server:
        yield server


@pytest.fixture(scope="module")
def document(schema_server: RunningServer) -> Any:
    return schemathesis.openapi.from_url(f"{schema_server.base_url}/openapi.json", timeout=3600)


RIGHT, WRONG = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
CLIPS = ("video", "video_id", "video_url")
# What takes no parameter, or any text for one, cannot be asked wrongly.
OPERATIONS = {
    ("POST", "/v1/classify"): (RIGHT, WRONG),
    ("POST", "/v1/embeddings"): (RIGHT, WRONG),
    ("POST", "/v1/timeline"): (RIGHT, WRONG),
    ("POST", "/v1/videos"): (RIGHT, WRONG),
    ("DELETE", "/v1/videos/{video_id}"): (RIGHT, WRONG),
    ("GET", "/v1/healthz"): (RIGHT,),
    ("GET", "/v1/labels"): (RIGHT,),
    ("GET", "/v1/labels/{name}"): (RIGHT,),
    ("GET", "/v1/model"): (RIGHT,),
    ("GET", "/v1/readyz"): (RIGHT,),
}


def test_every_operation_is_tried(document: Any) -> None:
    found = [result.ok() for result in document.get_all_operations()]
    assert sorted((o.method.upper(), o.path) for o in found) == sorted(OPERATIONS)


@pytest.mark.parametrize(
    ("method", "path", "mode"),
    [(*operation, mode) for operation, modes in OPERATIONS.items() for mode in modes],
)
def test_every_answer_is_one_that_the_document_names(
    document: Any, method: str, path: str, mode: GenerationMode
) -> None:
    cases = document[path][method].as_strategy(generation_mode=mode)

    @given(case=cases)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        response = case.call(timeout=3600)
        case.validate_response(response, checks=CHECKS)
        if response.status_code >= 400:
            assert response.json()["status"] == response.status_code
            assert "Traceback" not in response.text

    ask()


def with_clip(case: Any, clip: bytes) -> None:
    """Put a real clip in the place of what was made up, as this type of body has it."""
    case.body = {k: v for k, v in case.body.items() if k not in CLIPS}
    if case.media_type == "application/json":
        clip_there: Any = {"data": base64.b64encode(clip).decode()}
    else:
        clip_there = clip
    case.body["video"] = clip_there


@pytest.mark.parametrize("kind", ["multipart/form-data", "application/json"])
def test_real_clips_among_them_are_classified(document: Any, clip: bytes, kind: str) -> None:
    """Random bytes are no video: with a clip in their place the other fields count too."""
    statuses: Counter[int] = Counter()

    @given(case=document["/v1/classify"]["POST"].as_strategy(generation_mode=RIGHT))
    @settings(
        max_examples=2 * EXAMPLES,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: Any) -> None:
        assume(case.media_type == kind and "labels" in case.body)
        with_clip(case, clip)
        for calibrated in ("coverage", "scores"):  # which this bundle is not
            case.body.pop(calibrated, None)
        response = case.call(timeout=3600)
        case.validate_response(response, checks=CHECKS)
        statuses[response.status_code] += 1

    ask()
    assert statuses[200] >= 3, statuses


def test_the_server_is_whole_afterwards(schema_server: RunningServer, clip: bytes) -> None:
    assert schema_server.classify(clip, labels=["a", "b"]).status_code == 200
    assert schema_server.server.admission.in_flight == 0
