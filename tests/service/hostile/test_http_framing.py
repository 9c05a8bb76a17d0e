"""Differential: the server never answers more requests than a strict parser finds in the bytes.

Requests whose bodies hold requests, mutated at lengths, chunks, line ends and headers, sent in
pieces. Mutant N of a seed is always the same bytes. `make fuzz` sends 10,000.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterator

import pytest

from tests.service.conftest import RunningServer, fake_runtime, running
from tests.service.strict_http import read_answers, read_requests

MUTANTS = int(os.environ.get("XCLIP_TEST_HTTP_MUTANTS", "300"))
SEED = int(os.environ.get("XCLIP_TEST_FUZZ_SEED", "6"))
AT_ONCE = 20
HANGS_S = 800  # just within pytest's own limit, which cannot name the mutant

SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-ID: smuggled\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-ID: last\r\nConnection: close\r\n\r\n"
FORM = b'--b\r\nContent-Disposition: form-data; name="labels"\r\n\r\n' + SMUGGLED + b"\r\n--b--\r\n"
UPGRADES = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    b"Upgrade: foo\r\nConnection: keep-alive, Upgrade\r\n",
)
LINES = (
    *UPGRADES,
    b"Content-Length: 0\r\n", b"Content-Length: 5\r\n", b"Content-Length: +60\r\n",
    b"Content-Length: 60, 60\r\n", b"Content-Length: 0x3c\r\n", b"Content-Length : 60\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", b"Transfer-Encoding:\tchunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding : chunked\r\n", b"Transfer-Encoding:\r\n chunked\r\n",
    b"Connection: close\r\n", b"Connection: keep-alive\r\n", b"Host: y\r\n", b" folded\r\n",
    b"Expect: 100-continue\r\n", b"0\r\n\r\n", b"0\r\n", b"ffffffffffffffff\r\n",
    b"3;a=b\r\nabc\r\n",
)  # fmt: skip
PIECES = (
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\n\n", b"\0", b" ", b"\t", b":", b";", b",", b"0", b"1",
    b"\xff", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"http://y", SMUGGLED,
)  # fmt: skip


def request(headers: bytes, body: bytes, *, chunked: bool, name: bytes) -> bytes:
    """A POST of this body, framed as it should be."""
    if chunked:
        half = len(body) // 2
        parts = (body[:half], body[half:], b"")
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        framing = b"Transfer-Encoding: chunked\r\n"
    else:
        framing = b"Content-Length: %d\r\n" % len(body)
    return (
        b"POST /classify HTTP/1.1\r\nHost: x\r\nX-Request-ID: " + name + b"\r\n"
        b"Content-Type: multipart/form-data; boundary=b\r\n" + framing + headers + b"\r\n" + body
    )


def insert_line(random_: random.Random, data: bytes) -> bytes:
    ends = [i + 2 for i in range(len(data)) if data[i : i + 2] == b"\r\n"]
    at = random_.choice(ends or [0])
    return data[:at] + random_.choice(LINES) + data[at:]


def insert_piece(random_: random.Random, data: bytes) -> bytes:
    at = random_.randrange(len(data) + 1)
    return data[:at] + random_.choice(PIECES) + data[at:]


def change_line_end(random_: random.Random, data: bytes) -> bytes:
    ends = [i for i in range(len(data)) if data[i : i + 2] == b"\r\n"]
    if not ends:
        return data
    at = random_.choice(ends)
    return (
        data[:at]
        + random_.choice((b"\n", b"\r", b"", b"\r\r\n", b"\n\r", b" \r\n"))
        + data[at + 2 :]
    )


def change_digit(random_: random.Random, data: bytes) -> bytes:
    digits = [i for i, byte in enumerate(data) if chr(byte).isdigit()]
    if not digits:
        return data
    at = random_.choice(digits)
    return data[:at] + random_.choice((b"0", b"1", b"9", b"a", b"-", b"")) + data[at + 1 :]


def cut_out(random_: random.Random, data: bytes) -> bytes:
    at = random_.randrange(len(data))
    return data[:at] + data[at + random_.randrange(1, 12) :]


def flip_a_bit(random_: random.Random, data: bytes) -> bytes:
    at = random_.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << random_.randrange(8)]) + data[at + 1 :]


MUTATIONS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    insert_line, insert_line, insert_piece, change_line_end, change_digit, cut_out, flip_a_bit,
)  # fmt: skip


def mutant(seed: int, number: int) -> list[bytes]:
    """What is sent, in the pieces it is sent in."""
    random_ = random.Random(f"{seed}/{number}")
    data = b""
    for i in range(random_.choice((1, 1, 2, 3))):
        body = random_.choice((FORM, SMUGGLED, b"x" * 60 + SMUGGLED))
        headers = random_.choice((b"", b"", *UPGRADES))
        data += request(headers, body, chunked=random_.random() < 0.5, name=b"%d" % i)
    for _ in range(random_.choice((0, 1, 1, 2, 3))):
        data = random_.choice(MUTATIONS)(random_, data) or b"\0"
    data += LAST
    cuts = sorted(random_.randrange(len(data)) for _ in range(random_.choice((0, 1, 3))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


async def answers_to(port: int, pieces: list[bytes]) -> bytes:
    """Everything that comes back until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.001)
        while data := await reader.read(65536):
            received += data
    except ConnectionError:
        pass  # what was answered before the close has arrived
    finally:
        writer.close()
    return received


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(
        fake_runtime(), header_timeout_s=1, upload_idle_timeout_s=1, keep_alive_s=1
    ) as started:
        yield started


def test_no_byte_of_a_body_is_answered_as_a_request(server: RunningServer) -> None:
    wrong: list[str] = []

    async def look(number: int, turn: asyncio.Semaphore) -> None:
        pieces = mutant(SEED, number)
        strict = read_requests(b"".join(pieces))
        async with turn, asyncio.timeout(HANGS_S):
            received = await answers_to(server.port, pieces)
        answers = read_answers(received)
        ids = [answer.headers.get("x-request-id", "").encode() for answer in answers]
        if (
            len(answers) > strict.answers_at_most
            or (b"smuggled" in ids and b"smuggled" not in strict.ids)
            or any(answer.status >= 500 for answer in answers)
        ):
            wrong.append(f"mutant {number} of {SEED}: {pieces}: {strict}: {received!r}")

    async def look_at_all() -> None:
        turn = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            for number in range(MUTANTS):
                tasks.create_task(look(number, turn))

    asyncio.run(look_at_all())
    assert not wrong, "\n".join(wrong[:5])
    assert server.client.get("/healthz").status_code == 200


def test_the_unmutated_requests_are_all_answered() -> None:
    """The test above would pass for a server that answers nothing."""
    sent = [
        request(headers, FORM, chunked=chunked, name=b"%d" % number)
        for number, (headers, chunked) in enumerate(
            (headers, chunked) for headers in (b"", *UPGRADES) for chunked in (False, True)
        )
    ]
    with running(fake_runtime()) as server:
        received = asyncio.run(answers_to(server.port, [b"".join(sent) + LAST]))
    answers = read_answers(received)
    assert len(answers) == len(sent) + 1 == read_requests(b"".join(sent) + LAST).answers_at_most
    assert [answer.status for answer in answers] == [422] * len(sent) + [200]  # no clip in them
