"""A worker that a file has taken over may say anything: nothing it says may hurt the parent."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import pytest

from model.inputs import InputSpec, NotAVideo, VideoError, VideoWarning
from model.inputs.errors import Fact
from service.api.problems import STATUS
from service.decode import DecodeCrashed, DecodePool, DecodeTimeout, TooDemanding
from service.decode.answer_validation import REFUSALS, BadAnswer, clip_from
from service.decode.errors import ExactTimeout
from service.decode.frame_memory import FrameMemory
from service.decode.protocol import Job, Refused
from tests.service.decode.conftest import Order, WithPool

TICKET = "0123456789abcdef"
JOB = Job(
    ticket=TICKET,
    views=1,
    crops=1,
    start=None,
    end=None,
    frame_rule="exact",
    budget_s=1.0,
    rates={},
)
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
    "work": {"codec": "h264", "depth": 8, "pixels": 64, "pictures": 9, "seconds": 0.5},
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
    "facts": {},
}
RESOLUTION = {"width": 9000, "height": 16, "max_pixels": 100, "max_side": 50}


def refusal(**changed: object) -> str:
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
    "a warning of its own": 'fields {"info.warnings": ["buy this"]}',
    "endless warnings": f'fields {{"info.warnings": {json.dumps([VideoWarning.HDR] * 1000)}}}',
    "frames by another rule": 'fields {"info.frame_rule": "keyframes"}',
    "a rule of its own": 'fields {"info.frame_rule": "best"}',
    "negative work": 'fields {"work.pictures": -1}',
    "work without end": "raw " + json.dumps(HONEST).replace('"seconds": 0.5', '"seconds": 1e999'),
    "work of a long name": f'fields {{"work.codec": "{"x" * 65}"}}',
    "no frames": 'fields {"info.frames": 0}',
    "true is no number": 'fields {"info.width": true}',
    "a path as codec": 'fields {"info.codec": "/etc/passwd"}',
    "a line break in the codec": 'fields {"info.codec": "h264\\n"}',
    "unknown error class": refusal(error="SystemExit"),
    "a text of its own": refusal(detail="buy at http://evil.example"),
    "facts that the sentence has no place for": refusal(facts={"width": 1}),
    "a fact too few": refusal(error="TooLarge", facts={"width": 1}),
    "a name for a number": refusal(error="TooLarge", facts=RESOLUTION | {"width": "wide"}),
    "a text for a number": refusal(error="TooLarge", facts=RESOLUTION | {"width": "a b\r\n"}),
    "a number out of bounds": refusal(error="TooLarge", facts=RESOLUTION | {"width": 2**41}),
    "true for a number": refusal(error="TooLarge", facts=RESOLUTION | {"width": True}),
    "more facts than any sentence has": refusal(facts={f"f{i}": i for i in range(9)}),
}


@pytest.mark.parametrize("said", sorted(NONSENSE))
def test_nonsense_is_no_clip(said: str, spec: InputSpec) -> None:
    how, _, text = NONSENSE[said].partition(" ")
    packet = SAID[how](text)
    with FrameMemory((1, 4, 16, 16, 3)) as memory, pytest.raises(BadAnswer, match="garbage"):
        clip_from(packet, JOB, memory, 4)


def test_the_answer_that_is_changed_above_is_good() -> None:
    with FrameMemory((1, 4, 16, 16, 3)) as memory:
        clip = clip_from(SAID["fields"]("{}"), JOB, memory, 4)
    assert clip.frames.shape == (1, 4, 16, 16, 3)
    assert not clip.frames.any()


@pytest.mark.parametrize("lie", ["raw {}", "raw \x01", "long 65537", "long 150000"])
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
    with (
        FrameMemory((1, 4, 16, 16, 3)) as memory,
        pytest.raises(NotAVideo, match="not a video; send mp4"),
    ):
        clip_from(packet, JOB, memory, 4)


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


def test_facts_for_the_client_come_through(with_pool: WithPool, order: Order) -> None:
    said = refusal(ticket="OF THE JOB", error="TooLarge", facts=RESOLUTION)

    async def scenario(pool: DecodePool) -> None:
        with pytest.raises(VideoError, match="the picture is 9000x16; at most 100 pixels"):
            await pool.decode(order("lie " + said))
        assert not pool.stats.ended

    with_pool(scenario)


def test_every_refusal_can_be_passed_on() -> None:
    """Each class has a sentence of its own, and facts that the protocol carries."""
    import_module("model.inputs.video.decode")
    kinds = {TooDemanding, VideoError}
    for kind in VideoError.__subclasses__():
        kinds |= {kind, *kind.__subclasses__()}
    kinds -= {DecodeTimeout, ExactTimeout, DecodeCrashed}
    assert set(REFUSALS.values()) == {kind for kind in kinds if kind.__module__[:5] != "tests"}
    assert len(kinds) > 15
    for kind in kinds:
        facts: dict[str, Fact] = dict.fromkeys(kind.fields(), 7)
        packet = Refused(ticket=TICKET, error=kind.__name__, facts=facts).to_bytes()
        with FrameMemory((1, 4, 16, 16, 3)) as memory, pytest.raises(kind) as caught:
            clip_from(packet, JOB, memory, 4)
        assert caught.value.detail == kind(**facts).detail
        assert caught.value.code in STATUS


def test_what_was_taken_cannot_be_changed_afterwards(with_pool: WithPool, order: Order) -> None:
    """A worker that kept the memory mapped writes to it when its clip is long in use."""

    async def scenario(pool: DecodePool) -> None:
        clip = await pool.decode(order("lie mapped"))
        await pool.decode(order("scribble"))
        assert not clip.frames.any()
        with pytest.raises(ValueError, match="read-only"):
            clip.frames[0, 0, 0, 0, 0] = 1

    with_pool(scenario)


def test_memory_that_is_cut_short_is_no_clip(
    with_pool: WithPool, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only without the filter can a worker do that; reading it then must not end the service."""
    monkeypatch.setattr("service.decode.pool.compile_filter", lambda: "")

    async def scenario(pool: DecodePool) -> None:
        with pytest.raises(DecodeCrashed):
            await pool.decode(order("lie short"))
        assert pool.stats.ended == {"garbage": 1}

    with_pool(scenario)
