"""Attackers from one address, or one /64, take what they can get; good clients come from another.

pytest -m long tests/service/hostile/test_attacks.py --log-cli-level INFO     shows the figures
XCLIP_TEST_ATTACK_S shortens it. Short forms, which count events: test_one_client_among_many.py.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import logging
import multiprocessing
import os
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from export.bundle.labels import LabelSet, write_label_set
from export.bundle.manifest import MANIFEST_FILE
from export.bundle.reading import open_bundle
from service.settings import DEMO_BUNDLE, Settings
from tests.memory_limits import most_memory
from tests.service.hostile.attacks import ATTACKS, SOURCES, Attack, Target, slow_readers
from tests.service.hostile.conftest import ServerProcess, Serving
from tests.service.hostile.load import Outcome, request, send
from tests.service.hostile.network import in_own_network

log = logging.getLogger(__name__)

SECONDS = float(os.environ.get("XCLIP_TEST_ATTACK_S", "30"))
GOOD_CLIENTS = 2
GOOD, GOOD_PAUSE_S, HEALTH_EVERY_S = "127.0.0.3", 0.1, 0.2
LEAST_ANSWERED, MOST_TIMES_SLOWER, HEALTH_WITHIN_S = 0.95, 5, 1.0
MIB = 1 << 20
MANY_LABELS = 100_000


@dataclass
class Seen:
    """What good clients, and who asks for health, got; and the most memory in use."""

    good: list[Outcome] = field(default_factory=list)
    health: list[Outcome] = field(default_factory=list)
    memory: int = 0

    def p99(self, of: list[Outcome]) -> float:
        return float(np.percentile([outcome.seconds for outcome in of], 99))

    @property
    def answered(self) -> float:
        return sum(outcome.status == 200 for outcome in self.good) / len(self.good)


async def watched(server: ServerProcess, clip: bytes, ends: itertools.count[int]) -> Seen:
    """What good clients see for a while."""
    seen, port = Seen(), port_of(server)
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    async def good() -> None:
        while True:
            fields = {"labels": '["a cat", "a dog"]', "end": str(next(ends))}
            seen.good.append(await send(port, request(clip, fields), GOOD))
            await asyncio.sleep(GOOD_PAUSE_S)

    async def healthy() -> None:
        while True:
            seen.health.append(await send(port, health, GOOD))
            await asyncio.sleep(HEALTH_EVERY_S)

    async def memory() -> None:
        while True:
            seen.memory = max(seen.memory, sum((await asyncio.to_thread(server.resident)).values()))
            await asyncio.sleep(0.2)

    watching = [asyncio.create_task(work()) for work in (*(good,) * GOOD_CLIENTS, healthy, memory)]
    await asyncio.sleep(SECONDS)
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    return seen


def port_of(server: ServerProcess) -> int:
    return int(server.url.rpartition(":")[2])


async def attacked(
    server: ServerProcess, attack: Attack, source: str, files: dict[str, bytes], clip: bytes
) -> tuple[Seen, Seen, Counter[str]]:
    """The same for a quiet server, and for one under attack; and what the attackers were told."""
    ends = itertools.count(1000)
    await send(port_of(server), files["good"], GOOD)  # what comes first is no measure
    quiet = await watched(server, clip, ends)
    ours, theirs = multiprocessing.Pipe()
    arguments = (attack.__name__, port_of(server), source, files, theirs)
    attackers = multiprocessing.get_context("spawn").Process(target=run_attack, args=arguments)
    attackers.start()
    theirs.close()  # so that it is noticed where they fail
    try:
        await asyncio.to_thread(ours.recv)  # they have begun
        await asyncio.sleep(min(5.0, SECONDS / 4))
        seen = await watched(server, clip, ends)
        ours.send(None)
        return quiet, seen, await asyncio.to_thread(ours.recv)
    finally:
        attackers.kill()
        attackers.join()


def run_attack(
    name: str, port: int, source: str, files: dict[str, bytes], pipe: Connection
) -> None:
    """Attack until told to stop: a process of its own, which does not hold up who looks on."""

    async def run() -> None:
        target = Target(port, SOURCES[source], files)
        attack = next(attack for attack in ATTACKS if attack.__name__ == name)
        attacking = asyncio.create_task(attack(target))
        pipe.send(None)
        await asyncio.to_thread(pipe.recv)
        assert not attacking.done(), attacking
        pipe.send(target.answers)

    asyncio.run(run())


@pytest.fixture(scope="module")
def dear(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Some kilobytes that need longer than a clip may: one key frame, all others lean on it."""
    path = tmp_path_factory.mktemp("dear") / "dear.mp4"
    subprocess.run(
        ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", "color=gray:size=1920x1080:rate=60",
         "-t", "95", "-c:v", "libx264", "-preset", "ultrafast", "-g", "100000", str(path)],
        check=True,
    )  # fmt: skip
    return path.read_bytes()


@pytest.fixture(scope="module")
def big_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with a stored list of a hundred thousand labels."""
    folder = Path(shutil.copytree(DEMO_BUNDLE, tmp_path_factory.mktemp("bundles") / "big"))
    dim = open_bundle(folder, check_files=False).manifest.text_dim
    labels = tuple(f"a label of the number {n}" for n in range(MANY_LABELS))
    vectors = np.random.default_rng(0).normal(size=(MANY_LABELS, dim)).astype(np.float32)
    info = write_label_set(folder, "big", LabelSet(labels, labels, vectors))
    manifest = json.loads((folder / MANIFEST_FILE).read_text())
    manifest["labels"]["big"] = info.model_dump()
    for file in (info.vectors, info.prompts):
        manifest["files"][file] = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest))
    return folder


@pytest.mark.long
@pytest.mark.timeout(600 + 4 * SECONDS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_good_clients_are_served_all_the_same(
    serving: Serving, videos: dict[str, Path], dear: bytes, big_bundle: Path, attack: Attack,
    source: str,
) -> None:  # fmt: skip
    clip = videos["arm_wrestling"].read_bytes()
    bundle = big_bundle if attack is slow_readers else DEMO_BUNDLE

    def run() -> tuple[Seen, Seen, Counter[str]]:
        with serving(host="::", bundle=bundle) as server:
            known = request(clip, {"labels": '["a"]'})
            files = {"dear": dear, "good": known, "clip": clip}
            return asyncio.run(attacked(server, attack, source, files, clip))

    quiet, seen, answers = in_own_network(run)
    allowed = most_memory(Settings(bundle=bundle, decode_workers=2))
    times = seen.p99(seen.good) / quiet.p99(quiet.good)
    log.info(
        "%s from %s | %.1f %% of %d answered | p99 %.2f s, quiet %.2f s: %.1f times | /healthz p99 "
        "%.0f ms | %d MiB, allowed %d | attackers heard %s",
        attack.__name__.replace("_", " "), source, 100 * seen.answered, len(seen.good),
        seen.p99(seen.good), quiet.p99(quiet.good), times, 1000 * seen.p99(seen.health),
        seen.memory // MIB, allowed // MIB, dict(answers),
    )  # fmt: skip
    assert quiet.answered == 1
    assert seen.answered >= LEAST_ANSWERED, Counter(outcome.status for outcome in seen.good)
    assert times <= MOST_TIMES_SLOWER
    assert {outcome.status for outcome in seen.health} == {200}
    assert seen.p99(seen.health) <= HEALTH_WITHIN_S
    assert seen.memory <= allowed
