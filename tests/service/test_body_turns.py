"""Bodies that cost more to parse than to send are parsed when it is their client's turn."""

from __future__ import annotations

import asyncio
import base64
import json
import random
import urllib.parse
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from service.api import body as body_module
from service.api.asking import body_limits
from service.api.body import read_body
from service.api.multipart import MultipartReader
from service.api.urlencoded import UrlencodedReader
from service.contract.body import ClassifyBody
from service.contract.errors import ApiError
from service.settings import Settings
from tests.service.hostile.load import request

LIMITS = body_limits(Settings(), ClassifyBody)

FORM = "multipart/form-data; boundary=b"
LABELS = [f"label {n}" for n in range(100)]


class Everything(frozenset[str]):
    """Every name is one of a field."""

    def __contains__(self, name: object) -> bool:
        return True


def form(video: bytes, fields: list[tuple[str, str]]) -> bytes:
    return request(video, fields).partition(b"\r\n\r\n")[2]


def calls_in_turn(kind: str, body: bytes) -> int:
    """How many calls had to wait for their turn."""
    calls = 0

    async def stream() -> AsyncIterator[bytes]:
        for first in range(0, len(body), 60_000):
            yield body[first : first + 60_000]

    async def in_turn(call: Callable[[], Any]) -> Any:
        nonlocal calls
        calls += 1
        return call()

    async def scenario() -> None:
        read = await read_body(stream(), {"content-type": kind}, LIMITS, in_turn)
        read.close()

    asyncio.run(scenario())
    return calls


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FORM, form(b"", [("labels", label) for label in LABELS])),
        (FORM, form(b"\r\n--bx" * 10_000, [])),
        ("application/json", json.dumps({"labels": LABELS}).encode()),
        ("application/json", json.dumps({"labels": ["\\" * 200]}).encode()),
        ("application/x-www-form-urlencoded", b"&".join([b"labels=a"] * 300)),
        ("application/x-www-form-urlencoded", b"labels=" + b"%41" * 300),
    ],
    ids=["parts", "all but boundaries", "values", "escapes", "fields", "escaped bytes"],
)
def test_what_falls_into_many_pieces_waits_for_its_turn(kind: str, body: bytes) -> None:
    assert calls_in_turn(kind, body) >= 1


@pytest.mark.parametrize("size", [1000, 300_000, 8 << 20])
def test_a_clip_with_a_few_fields_does_not(size: int) -> None:
    clip = random.Random(0).randbytes(size)
    assert calls_in_turn(FORM, form(clip, [("labels", '["a", "b"]'), ("top_k", "1")])) == 0


def test_a_clip_in_json_waits_for_what_is_around_it_alone() -> None:
    """PHP, for one, writes / as an escape, of which base64 has one in 64 characters."""
    clip = base64.b64encode(random.Random(0).randbytes(300_000)).decode()
    body = json.dumps({"video": {"data": clip}, "labels": ["a", "b"]}).replace("/", "\\/")
    assert calls_in_turn("application/json", body.encode()) == 1  # where the clip begins
    after = json.dumps({"video": {"data": clip}, "labels": LABELS}).replace("/", "\\/")
    assert calls_in_turn("application/json", after.encode()) == 2


def test_parts_are_counted_before_they_are_parsed() -> None:
    reader = MultipartReader(b"b", LIMITS)
    with pytest.raises(ApiError, match="more than 564 parts"):
        reader.write(form(b"", [("labels", "")] * 10_060))
    assert reader._parts == 0


@pytest.mark.parametrize("seed", range(30))
def test_escapes_are_undone_as_by_urllib_however_they_arrive(seed: int) -> None:
    draw = random.Random(seed)
    signs = [
        b"labels",
        b"=",
        b"&",
        b"%",
        b"+",
        b"%41",
        b"%c3%A9",
        b"%25",
        b"%3D",
        b"%26",
        b"%0",
        b"a",
    ]
    body = b"labels=" + b"".join(draw.choices([*signs, b"\n", b"\r\n", "é".encode()], k=60))
    known = replace(LIMITS, fields=Everything())
    reader, at = UrlencodedReader(known), 0
    while at < len(body):
        size = draw.randrange(1, 9)
        reader.write(body[at : at + size])
        at += size
    form = reader.finish()
    try:
        pairs = urllib.parse.parse_qsl(body.decode(), keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        with pytest.raises(ApiError, match="not UTF-8"):
            form.decode()
        return
    expected: dict[str, list[str]] = {}
    for name, text in pairs:
        expected.setdefault(name, []).append(text)
    assert form.fields == expected


def test_fields_are_counted_before_they_are_kept() -> None:
    reader = UrlencodedReader(LIMITS)
    with pytest.raises(ApiError, match="more than 564 fields"):
        reader.write(b"&" * 10_060)


def test_waiting_for_a_turn_is_not_sending_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(body_module, "time", SimpleNamespace(monotonic=lambda: now))
    content = form(b"", [("labels", label) for label in LABELS])

    async def stream() -> AsyncIterator[bytes]:
        yield content[:-10]
        yield content[-10:]

    async def in_turn(call: Callable[[], Any]) -> Any:
        nonlocal now
        now += 3600
        return call()

    async def scenario() -> None:
        await read_body(stream(), {"content-type": FORM}, LIMITS, in_turn)

    asyncio.run(scenario())
    assert now
