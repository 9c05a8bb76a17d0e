"""A worker that a file has taken over may say anything: nothing it says may hurt the parent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from model.inputs import InputSpec, NotAVideo, VideoError
from service.decode import DecodeCrashed, DecodePool
from service.decode.answer_validation import BadAnswer, clip_from
from service.decode.frame_memory import FrameMemory
from tests.service.decode.conftest import Order, WithPool

LONG = "x" * 501
TICKET = "0123456789abcdef"
HONEST: dict[str, Any] = {
    "kind": "decoded",
    "ticket": TICKET,
    "shape": [1, 4, 16, 16, 3],
    "info": {
        "duration_s": 1.0,
        "fps": 25.0,
        "width": 8,
        "height": 8,
        "codec": "h264",
        "frames": 4,
        "frame_times_s": [0.0, 0.1, 0.2, 0.3],
        "warnings": [],
    },
}


def with_fields(text: str) -> bytes:
    """The honest answer with some fields replaced; a key `info.x` reaches inside."""
    fields = {key: dict(v) if isinstance(v, dict) else v for key, v in HONEST.items()}
    for key, value in json.loads(text).items():
        outer, _, inner = key.partition(".")
        if inner:
            fields[outer][inner] = value
        else:
            fields[outer] = value
    return json.dumps(fields).encode()


REFUSAL = {
    "kind": "refused",
    "ticket": TICKET,
    "error": "NotAVideo",
    "code": "not_a_video",
    "detail": "ünïcode",
}


def refusal(**changed: str) -> str:
    """A refusal with some fields replaced, as an argument of `raw`."""
    return "raw " + json.dumps(REFUSAL | changed, ensure_ascii=False)


SAID = {
    "raw": str.encode,
    "long": lambda count: b"[" * int(count),
    "fields": with_fields,
}

NONSENSE = {
    "empty object": "raw {}",
    "no JSON": "raw \x01\x02\x03",
    "not UTF-8 as text": "raw \ud7ff\x7f",
    "a list": "raw [1, 2, 3]",
    "deeply nested": "long 60000",
    "for another job": 'fields {"ticket": "fedcba9876543210"}',
    "for no job": 'fields {"ticket": ""}',
    "a refusal for another job": refusal(ticket="fedcba9876543210"),
    "unknown kind": 'fields {"kind": "pickle"}',
    "unknown field": 'fields {"path": "/etc/passwd"}',
    "more frames than agreed": 'fields {"shape": [1, 4000, 16, 16, 3]}',
    "another shape of the same size": 'fields {"shape": [1, 2, 32, 16, 3]}',
    "negative shape": 'fields {"shape": [-1, -4, 16, 16, 3]}',
    "huge shape": f'fields {{"shape": [{10**30}, 4, 16, 16, 3]}}',
    "fewer times": 'fields {"info.frame_times_s": [0.0]}',
    "more times": f'fields {{"info.frame_times_s": {[0.0] * 2000}}}',
    "negative times": 'fields {"info.frame_times_s": [0.0, 1.0, -2.0, 3.0]}',
    "times that are no numbers": 'fields {"info.frame_times_s": ["0", "1", "2", "3"]}',
    "times without end": "raw "
    + json.dumps(HONEST).replace("[0.0, 0.1, 0.2, 0.3]", "[NaN, 0, 0, 0]"),
    "endless duration": "raw "
    + json.dumps(HONEST).replace('"duration_s": 1.0', '"duration_s": 1e999'),
    "negative width": 'fields {"info.width": -1}',
    "absurd height": f'fields {{"info.height": {10**12}}}',
    "a warning of two lines": 'fields {"info.warnings": ["a\\nb"]}',
    "endless warnings": f'fields {{"info.warnings": {json.dumps(["x"] * 1000)}}}',
    "no frames": 'fields {"info.frames": 0}',
    "true is no number": 'fields {"info.width": true}',
    "a path as codec": 'fields {"info.codec": "/etc/passwd"}',
    "a line break in the codec": 'fields {"info.codec": "h264\\n"}',
    "unknown error class": refusal(error="SystemExit"),
    "a code that is no code": refusal(code="A B"),
    "an endless detail": refusal(detail=LONG),
    "a header in the detail": refusal(detail="x\r\nSet-Cookie: y"),
}


@pytest.mark.parametrize("said", sorted(NONSENSE))
def test_nonsense_is_no_clip(said: str, spec: InputSpec) -> None:
    how, _, text = NONSENSE[said].partition(" ")
    packet = SAID[how](text)
    with FrameMemory((1, 4, 16, 16, 3)) as memory, pytest.raises(BadAnswer, match="garbage"):
        clip_from(packet, TICKET, memory, 4)


def test_the_answer_that_is_changed_above_is_good() -> None:
    with FrameMemory((1, 4, 16, 16, 3)) as memory:
        clip = clip_from(SAID["fields"]("{}"), TICKET, memory, 4)
    assert clip.frames.shape == (1, 4, 16, 16, 3)
    assert not clip.frames.any()


@pytest.mark.parametrize(
    "lie", ["raw {}", "raw \x01", "long 65537", "long 150000", "mapped", "sealed"]
)
def test_nonsense_costs_the_worker_and_its_job_alone(
    with_pool: WithPool, order: Order, lie: str
) -> None:
    async def scenario(pool: DecodePool) -> None:
        with pytest.raises(DecodeCrashed):
            await pool.decode(order(f"lie {lie}"))
        assert (await pool.decode(order("fine"))).info.codec == "test"
        assert pool.stats.ended == {"garbage": 1}

    with_pool(scenario)


def test_the_refusal_that_is_changed_above_is_good() -> None:
    packet = SAID["raw"](refusal().removeprefix("raw "))
    with FrameMemory((1, 4, 16, 16, 3)) as memory, pytest.raises(NotAVideo, match="ünïcode"):
        clip_from(packet, TICKET, memory, 4)


def test_an_honest_answer_by_the_same_means_is_taken(with_pool: WithPool, order: Order) -> None:
    """The lies above fail for what is changed in them, not for how they are made."""

    async def scenario(pool: DecodePool) -> None:
        clip = await pool.decode(order("lie honest"))
        assert clip.frames.shape == (1, 4, 16, 16, 3)
        assert not clip.frames.any()

    with_pool(scenario)


@pytest.mark.parametrize("pause_s", [0, 0.2])
def test_an_answer_too_many_is_not_taken_for_the_next_clip(
    with_pool: WithPool, order: Order, pause_s: float
) -> None:
    async def scenario(pool: DecodePool) -> None:
        (liar,) = pool.pids
        await pool.decode(order(f"lie twice {pause_s}"))
        assert (await pool.decode(order("fine"))).info.codec == "test"
        assert liar not in pool.pids
        assert pool.stats.ended == {"garbage": 1}

    with_pool(scenario)


def test_descriptors_that_a_worker_sends_are_dropped(
    with_pool: WithPool, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the filter a worker can attach them; with_pool counts what is left open here."""
    monkeypatch.setattr("service.decode.pool.compile_filter", lambda: "")

    async def scenario(pool: DecodePool) -> None:
        with pytest.raises(DecodeCrashed):
            await pool.decode(order("lie gift"))
        assert pool.stats.ended == {"garbage": 1}

    with_pool(scenario)


def test_words_for_the_client_come_through(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        with pytest.raises(VideoError, match="ünïcode"):
            await pool.decode(order("lie " + refusal(ticket="OF THE JOB")))
        assert not pool.stats.ended

    with_pool(scenario)
