"""The OpenAPI document as programs that make clients read it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from service.api.openapi import ANSWER_EXAMPLE
from service.api.problems import STATUS
from service.contract.answer import Classification, Problem
from service.contract.errors import ErrorCode
from service.contract.served import Limits, ReadyState, ServedModel
from tests.service.conftest import RunningServer, fake_runtime, running

CAMEL = re.compile(r"[a-z]+([A-Z][a-z]+)*")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(fake_runtime()) as started:
        yield started


@pytest.fixture(scope="module")
def document(server: RunningServer) -> dict[str, Any]:
    document: dict[str, Any] = server.client.get("/v1/openapi.json").json()
    return document


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        operation["operationId"]: operation
        for methods in document["paths"].values()
        for operation in methods.values()
    }


def test_operations_have_names_groups_and_texts(
    document: dict[str, Any], operations: dict[str, dict[str, Any]]
) -> None:
    assert all(path.startswith("/v1/") for path in document["paths"])
    assert len(operations) == sum(len(methods) for methods in document["paths"].values())
    groups = {tag["name"] for tag in document["tags"] if tag["description"]}
    for name, operation in operations.items():
        assert CAMEL.fullmatch(name)
        assert operation["summary"]
        assert operation["description"]
        (tag,) = operation["tags"]
        assert tag in groups


def test_the_codes_of_problems_are_an_enum(document: dict[str, Any]) -> None:
    code = document["components"]["schemas"]["Problem"]["properties"]["code"]
    assert sorted(code["enum"]) == sorted(get_args(ErrorCode)) == sorted(STATUS)


def test_a_client_can_read_a_code_that_it_does_not_know() -> None:
    values = {"type": "t", "title": "t", "status": 418, "detail": "d", "request_id": "r"}
    assert Problem(code="of_a_newer_server", **values).code == "of_a_newer_server"


def test_every_answer_names_its_headers(operations: dict[str, dict[str, Any]]) -> None:
    for operation in operations.values():
        for status, response in operation["responses"].items():
            named = response["headers"].keys()
            assert "X-Request-ID" in named
            assert ("Retry-After" in named) == (status in ("429", "503", "504"))
            assert ("WWW-Authenticate" in named) == (status == "401")
            assert "HTTPValidationError" not in str(response)


def test_examples_are_answers_and_problems(operations: dict[str, dict[str, Any]]) -> None:
    assert Classification.model_validate_json(json.dumps(ANSWER_EXAMPLE)).predictions[0].index == 0
    content = operations["classify"]["responses"]["200"]["content"]
    assert content["application/json"]["example"] == ANSWER_EXAMPLE
    for operation in operations.values():
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                problem = Problem.model_validate(
                    response["content"]["application/problem+json"]["example"]
                )
                assert problem.status == int(status)


def test_alternatives_are_one_of_several(operations: dict[str, dict[str, Any]]) -> None:
    content = operations["classify"]["requestBody"]["content"]
    schema = content["multipart/form-data"]["schema"]
    alternatives = [
        [name for one in rule["oneOf"] for name in one["required"]] for rule in schema["allOf"]
    ]
    assert alternatives == [["video", "video_url", "video_id"], ["labels", "label_set"]]


def test_what_the_server_says_of_itself_is_typed(server: RunningServer) -> None:
    model = ServedModel.model_validate_json(server.client.get("/v1/model").content)
    assert model.name == server.server.engine.bundle.manifest.name
    assert model.limits == Limits.model_validate(server.settings)
    assert "files" not in server.client.get("/v1/model").json()
    state = ReadyState.model_validate_json(server.client.get("/v1/readyz").content)
    assert state.decode_workers
