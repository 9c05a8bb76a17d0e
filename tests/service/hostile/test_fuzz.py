"""Damaged files against a real server: no 5xx, no hang, no lost worker, whatever the bytes.

Mutants of the corpus: flipped bits, cut, spliced, repeated, overwritten. Mutant N of a seed is
always the same file, so what fails can be made again. `make fuzz` sends 20,000.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.conftest import CorpusFile
from tests.service.hostile.conftest import Serving

log = logging.getLogger(__name__)

FILES = int(os.environ.get("XCLIP_TEST_FUZZ_FILES", "500"))
SEED = int(os.environ.get("XCLIP_TEST_FUZZ_SEED", "6"))
AT_ONCE = 6
# Longest that one answer may take: every upload before it in line may use its whole limit.
# Their mutants take as long to decode as they do; the corpus test has them.
SLOW = ("cpu", "frames")
INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


Material = list[tuple[str, bytes]]  # name, content


def flip_bits(random_: random.Random, data: bytes, _other: bytes) -> bytes:
    """A few bits, more in larger files; the first kilobytes are hit most."""
    out = bytearray(data)
    for _ in range(random_.choice((1, 3, 10, 30))):
        reach = random_.choice((64, 1024, len(out)))
        at = random_.randrange(min(reach, len(out)))
        out[at] ^= 1 << random_.randrange(8)
    return bytes(out)


def write_numbers(random_: random.Random, data: bytes, _other: bytes) -> bytes:
    """Numbers at the edge of their range, where headers hold sizes and counts."""
    out = bytearray(data)
    for _ in range(random_.choice((1, 2, 8))):
        width = random_.choice((1, 2, 4, 8))
        at = random_.randrange(max(len(out) - width, 1))
        value = random_.choice(INTERESTING) % (1 << 8 * width)
        out[at : at + width] = value.to_bytes(width, random_.choice(("big", "little")))
    return bytes(out)


def truncate(random_: random.Random, data: bytes, _other: bytes) -> bytes:
    return data[: random_.randrange(1, len(data) + 1)]


def splice(random_: random.Random, data: bytes, other: bytes) -> bytes:
    """The beginning of one file and the end of another."""
    return data[: random_.randrange(1, len(data) + 1)] + other[random_.randrange(len(other)) :]


def repeat(random_: random.Random, data: bytes, _other: bytes) -> bytes:
    """A stretch once more, as a bad copy would have it."""
    start = random_.randrange(len(data))
    stretch = data[start : start + random_.randrange(1, 5000)]
    return data[:start] + stretch * random_.randrange(2, 9) + data[start:]


def cut_out(random_: random.Random, data: bytes, _other: bytes) -> bytes:
    start = random_.randrange(len(data))
    return data[:start] + data[start + random_.randrange(1, 5000) :]


def zero_out(random_: random.Random, data: bytes, _other: bytes) -> bytes:
    start = random_.randrange(len(data))
    stretch = data[start : start + random_.randrange(1, 2000)]
    return data[:start] + bytes(len(stretch)) + data[start + len(stretch) :]


MUTATIONS = (flip_bits, flip_bits, write_numbers, truncate, splice, repeat, cut_out, zero_out)


def mutant(seed: int, number: int, files: Material) -> tuple[str, bytes]:
    """Mutant `number`: (what was done to what, bytes). One to three mutations in a row."""
    random_ = random.Random(f"{seed}/{number}")
    (name, data), (_, other) = random_.choice(files), random_.choice(files)
    done = []
    for _ in range(random_.choice((1, 1, 2, 3))):
        mutation = random_.choice(MUTATIONS)
        data = mutation(random_, data, other) or b"\0"
        done.append(mutation.__name__)
    return f"{number}: {name} {' '.join(done)}", data


@pytest.fixture
def material(corpus: list[CorpusFile]) -> Material:
    """What is mutated: everything of the corpus that is not slow in itself."""
    return sorted(
        (e.name, e.path.read_bytes())
        for e in corpus
        if e.entry.get("attack") not in SLOW and e.entry["bytes"]
    )


def test_a_mutant_can_be_made_again(material: Material) -> None:
    name, data = mutant(SEED, 123, material)
    assert (name, data) == mutant(SEED, 123, material)
    assert data != mutant(SEED + 1, 123, material)[1]


def test_mutations_change_files(material: Material) -> None:
    """Most of them: flipping bits twice or cutting nothing off can leave a file as it was."""
    originals = {data for _, data in material}
    made = [mutant(SEED, i, material)[1] for i in range(200)]
    assert sum(data not in originals for data in made) > 190


@pytest.mark.timeout(7200)
def test_no_mutant_hurts_the_server(serving: Serving, material: Material, tmp_path: Path) -> None:
    with serving() as server:
        root = server.root.pid
        outcomes, slowest = asyncio.run(send_all(server.url, material, tmp_path))
        metrics = server.client.get("/metrics").text
        assert server.root.pid == root
        assert server.client.get("/readyz").status_code == 200
        assert list(server.uploads.iterdir()) == []
    ended = [line for line in metrics.splitlines() if "workers_ended_total{" in line]
    statuses = Counter(status for status, _ in outcomes)
    log.info(
        "%s",
        json.dumps(
            {
                "files": FILES,
                "seed": SEED,
                "by status": dict(statuses),
                "by code": dict(Counter(code for _, code in outcomes)),
                "slowest s": slowest,
                "workers ended": ended,
            }
        ),
    )
    assert set(statuses) <= {200, 413, 415, 422}
    assert statuses[200]
    assert statuses[422]


async def send_all(
    url: str, material: Material, folder: Path
) -> tuple[list[tuple[int, str]], list[tuple[float, str]]]:
    numbers = iter(range(FILES))
    outcomes: list[tuple[int, str]] = []
    seconds: list[tuple[float, str]] = []
    limits = httpx.Limits(max_connections=AT_ONCE)

    async def sender(client: httpx.AsyncClient) -> None:
        for number in numbers:
            name, data = mutant(SEED, number, material)
            began = time.monotonic()
            response = await client.post(
                "/classify",
                files={"video": ("clip", data)},
                data={"labels": '["a cat", "a dog"]'},
            )
            seconds.append((round(time.monotonic() - began, 2), name))
            code = "" if response.status_code == 200 else response.json()["code"]
            if response.status_code not in (200, 413, 415, 422) or code == "decode_crashed":
                keep(folder, name, data, response)
            outcomes.append((response.status_code, code))

    async with httpx.AsyncClient(base_url=url, timeout=None, limits=limits) as client:
        await asyncio.gather(*(sender(client) for _ in range(AT_ONCE)))
    return outcomes, sorted(seconds)[-5:]


def keep(folder: Path, name: str, data: bytes, response: httpx.Response) -> None:
    """So that it can be looked at."""
    with contextlib.suppress(OSError):
        (folder / f"mutant_{name.split(':')[0]}").write_bytes(data)
    log.warning("%s: %s %s (kept in %s)", name, response.status_code, response.text[:300], folder)
