"""Two keys: nothing of one can be seen, waited for or pushed out beyond its share by the other."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.cache.redis.spaces import in_space
from tests.service.conftest import RunningServer, clip_bytes, fake_runtime, running, until
from tests.service.test_sharing import Gate, gate  # noqa: F401 (a fixture)

ALICE, BOB = {"X-API-Key": "xclip_alice"}, {"X-API-Key": "xclip_bob"}
CAROL = {"X-API-Key": "xclip_carol"}
LABELS = ["secret project zebra", "a cat"]


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("keys") / "keys"
    lines = (
        f"{hashlib.sha256(f'xclip_{name}'.encode()).hexdigest()} {name}\n"
        for name in ("alice", "bob", "carol")
    )
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def server(key_file: Path) -> Iterator[RunningServer]:
    with running(fake_runtime(), api_keys_file=key_file) as started:
        yield started


def ask(server: RunningServer, key: dict[str, str], **fields: Any) -> httpx.Response:
    """POST /classify with a clip, or what its fields say."""
    video = fields.pop("video", None)
    files: dict[str, Any] = {"labels": (None, json.dumps(fields.pop("labels", LABELS)))}
    files |= {name: (None, value) for name, value in fields.items()}
    if video is not None:
        files["video"] = ("clip", video)
    return server.client.post("/classify", files=files, headers=key)


def test_nothing_of_one_is_seen_by_the_other(server: RunningServer) -> None:
    clip = clip_bytes(1)
    first = ask(server, ALICE, video=clip).json()
    assert first["cache"] == {"video": "miss", "text_hits": 0, "text_misses": 2}
    by_id = ask(server, BOB, video_id=first["video_id"])
    assert (by_id.status_code, by_id.json()["code"]) == (404, "unknown_video_id")
    # Not even that somebody has sent this file, or asked for these labels.
    other = ask(server, BOB, video=clip).json()
    assert other["cache"] == first["cache"]
    assert other["predictions"] == first["predictions"]
    for key in (ALICE, BOB):
        again = ask(server, key, video_id=first["video_id"]).json()
        assert again["cache"] == {"video": "hit", "text_hits": 2, "text_misses": 0}


def test_nobody_waits_for_what_another_has_sent(server: RunningServer, gate: Gate) -> None:  # noqa: F811
    clip = clip_bytes(2)

    async def scenario() -> None:
        gate.close()
        async with httpx.AsyncClient(base_url=server.base_url, timeout=None) as client:
            files: dict[str, Any] = {"video": ("clip", clip), "labels": (None, json.dumps(LABELS))}
            asked = [
                asyncio.create_task(client.post("/classify", files=files, headers=key))
                for key in (ALICE, BOB)
            ]
            await asyncio.to_thread(until, lambda: gate.arrived == 2)  # each decodes his own
            gate.open.set()
            answers = await asyncio.gather(*asked)
        assert [answer.json()["cache"]["video"] for answer in answers] == ["miss", "miss"]

    asyncio.run(scenario())


def test_keys_may_share_where_the_operator_says_so(key_file: Path) -> None:
    clip = clip_bytes(3)
    with running(fake_runtime(), api_keys_file=key_file, share_between_keys=True) as server:
        first = ask(server, ALICE, video=clip).json()
        other = ask(server, BOB, video_id=first["video_id"]).json()
        assert other["cache"] == {"video": "hit", "text_hits": 2, "text_misses": 0}
        assert ask(server, BOB, video=clip).json()["cache"]["video"] == "hit"


def test_addresses_share_where_there_are_no_keys() -> None:
    with running(fake_runtime()) as server:
        first = ask(server, {"X-Forwarded-For": "203.0.113.1"}, video=clip_bytes(3)).json()
        other = ask(server, {"X-Forwarded-For": "203.0.113.2"}, video_id=first["video_id"]).json()
        assert other["cache"] == {"video": "hit", "text_hits": 2, "text_misses": 0}


def test_the_start_up_list_is_for_all(key_file: Path, tmp_path: Path) -> None:
    warm = tmp_path / "labels.txt"
    warm.write_text("a cat\na dog\n")
    with running(fake_runtime(), api_keys_file=key_file, warm_labels=warm) as server:
        clip = clip_bytes(3)
        for key in (ALICE, BOB):
            answer = ask(server, key, video=clip, labels=["a cat", "a dog", "a bird"]).json()
            assert answer["cache"] == {"video": "miss", "text_hits": 2, "text_misses": 1}


@pytest.mark.parametrize("shared", [False, True])
def test_nobody_pushes_out_what_is_anothers_share(key_file: Path, shared: bool) -> None:
    labels = [f"label {n}" for n in range(8)]
    with running(
        fake_runtime(),
        api_keys_file=key_file,
        share_between_keys=shared,
        label_cache_bytes=64 << 10,
        video_cache_bytes=64 << 10,
    ) as server:
        engine = server.server.engine
        held = ask(server, ALICE, video=clip_bytes(4), labels=labels).json()["video_id"]
        clips, vectors = (
            (engine.features._clips, "features"),
            (engine.labels.known._known, "labels"),
        )
        of_alice = {name: cache.held_by("alice") for cache, name in (clips, vectors)}
        assert all(0 < held < 20 << 10 for held in of_alice.values())
        for number in range(30):
            for shade, key in ((5, BOB), (6, CAROL)):  # of whom one alone has half
                fields = {"end": f"{1 + number / 100:.2f}"}
                many = [f"other {shade} {number} {n}" for n in range(20)]
                answer = ask(server, key, video=clip_bytes(shade), labels=many, **fields)
                assert answer.status_code == 200
        for cache, name in (clips, vectors):
            assert cache.nbytes <= 64 << 10
            assert cache.nbytes > (64 << 10) - max(of_alice.values())  # it is full
            assert cache.held_by("alice") == of_alice[name]
        again = ask(server, ALICE, video_id=held, labels=labels).json()
        assert again["cache"] == {"video": "hit", "text_hits": 8, "text_misses": 0}


def test_spaces_have_other_names_in_redis() -> None:
    names = {in_space(space, name) for space in ("", "alice", "bob") for name in ("x", "y")}
    assert len(names) == 6
    assert in_space("", "x") == b"x"  # as it was before there were spaces
    assert b"alice" not in in_space("alice", "x")
