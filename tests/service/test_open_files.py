"""As many files may be open as connections may take."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from service.lifecycle.open_files import BESIDE, FOR_EACH, allow_open_files

FILES = resource.RLIMIT_NOFILE


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = resource.getrlimit(FILES)
    yield
    resource.setrlimit(FILES, before)


def test_a_limit_that_is_too_low_is_raised_and_no_other() -> None:
    _, hard = resource.getrlimit(FILES)
    few, more = FOR_EACH * 100 + BESIDE, FOR_EACH * 120 + BESIDE
    resource.setrlimit(FILES, (few - 1, hard))
    with capture_logs() as logs:
        for connections, limit in ((100, few), (120, more), (100, more)):
            allow_open_files(connections)
            assert resource.getrlimit(FILES) == (limit, hard)
    assert not logs


def test_what_is_not_to_be_had_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 2048))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: given.append(limits))
    with capture_logs() as logs:
        allow_open_files(1000)
    assert given == [(2048, 2048)]
    assert [(log["allowed"], log["needed"]) for log in logs] == [(2048, FOR_EACH * 1000 + BESIDE)]
    monkeypatch.undo()
