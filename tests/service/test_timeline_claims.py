"""A timeline of a video that says it is longer than it is, or is longer than may be asked about."""

from __future__ import annotations

import re
import struct
from typing import Any

import httpx
import pytest

from service.settings import Settings
from tests.conftest import ROOT
from tests.model.inputs.test_window_reader import encode_at
from tests.service.conftest import RunningServer

LABELS = ["a red circle moving left", "a red circle moving right"]
DAY_S = 86_400
# Box of an mp4, and where its length stands after its name.
LENGTHS = ((b"mvhd", 16), (b"tkhd", 20), (b"mdhd", 16), (b"elst", 8))


def ask(server: RunningServer, video: bytes, accept: str = "*/*", **fields: Any) -> httpx.Response:
    return server.client.post(
        "/v1/timeline",
        files={"video": ("c", video)},
        data={"labels": LABELS, **{name: str(value) for name, value in fields.items()}},
        headers={"Accept": accept},
    )


def in_mp4() -> tuple[bytes, bytes]:
    """A clip, and the same that claims as much as its boxes can hold."""
    honest = (ROOT / "docs" / "clip.mp4").read_bytes()
    claimed = bytearray(honest)
    for name, offset in LENGTHS:
        at = honest.index(name) + len(name) + offset
        claimed[at : at + 4] = b"\xff\xff\xff\xff"
    return honest, bytes(claimed)


def in_matroska() -> tuple[bytes, bytes]:
    """A clip, and the same that claims a day."""
    honest = encode_at(range(0, 2400, 50)).getvalue()
    at = honest.index(b"\x44\x89\x88") + 3  # Duration, of eight bytes: milliseconds
    return honest, honest[:at] + struct.pack(">d", 1000 * DAY_S) + honest[at + 8 :]


@pytest.mark.parametrize("make", [in_mp4, in_matroska])
def test_a_claim_makes_no_window_more(server: RunningServer, make: Any) -> None:
    honest, claimed = make()
    assert honest != claimed
    expected, found = (
        ask(server, video, window_s=1, stride_s=0.5).json() for video in (honest, claimed)
    )
    assert expected["windows"]
    for part in ("windows", "segments", "video"):
        assert found[part] == expected[part]


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson", "text/vtt"])
def test_a_day_of_pictures_is_refused(server: RunningServer, accept: str) -> None:
    day = encode_at(range(0, 1000 * DAY_S, 50_000), size=(16, 16)).getvalue()
    refusal = ask(server, day, accept, window_s=60)
    assert (refusal.status_code, refusal.json()["code"]) == (413, "video_too_long")
    assert refusal.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson", "text/vtt"])
def test_a_hundred_thousand_windows_are_refused(server: RunningServer, accept: str) -> None:
    """Of the shortest there are, one every least stride."""
    video = encode_at(range(0, 1_000_000, 20_000), size=(16, 16)).getvalue()
    refusal = ask(server, video, accept, window_s=0.1, stride_s=0.00625)
    problem = refusal.json()
    assert (refusal.status_code, problem["code"]) == (422, "too_many_windows")
    told = re.search(r"makes (\d+) windows, the limit is (\d+)", problem["detail"])
    assert told is not None
    count, limit = map(int, told.groups())
    assert count > 100_000
    assert limit == Settings.model_fields["max_windows"].default
