"""AV1 pictures that leave nothing behind: without them the others stay the same, bit by bit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from model.inputs import InputSpec, decode_clip
from model.inputs.video.bitstream import Role, inspector_for
from model.inputs.video.bitstream.role import ENTRY, PLAIN, REFERENCE
from tests.conftest import missing

SPEC = InputSpec(num_frames=8, image_size=32, resize_short_side=32)
# By what each is there for.
ENCODERS = {
    "layers": ["libsvtav1", "-preset", "8"],
    "three layers": ["libsvtav1", "-preset", "10", "-svtav1-params", "hierarchical-levels=3"],
    "grain and 10 bit": [
        "libsvtav1", "-preset", "10", "-pix_fmt", "yuv420p10le", "-svtav1-params", "film-grain=20",
    ],
    "numbered frames": [
        "libaom-av1", "-cpu-used", "8", "-error-resilience", "1", "-lag-in-frames", "25",
    ],
    "unordered": ["libaom-av1", "-cpu-used", "8", "-aom-params", "enable-order-hint=0"],
}  # fmt: skip


@pytest.fixture(scope="module", params=ENCODERS)
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds in two groups of pictures."""
    if shutil.which("ffmpeg") is None:
        missing("ffmpeg")
    path = tmp_path_factory.mktemp("films") / "film.mkv"
    source = "testsrc2=size=96x64:rate=30,noise=alls=12:allf=t"
    command = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", source, "-t", "2", "-g", "35"]
    subprocess.run(
        [*command, "-c:v", *ENCODERS[request.param], str(path)], check=True, capture_output=True
    )
    return path


def pictures(packets: list[Any], context: Any) -> dict[int, bytes]:
    """The samples of all pictures that come of some packets, by the time of showing."""
    context.thread_count = 1
    frames = [frame for packet in (*packets, None) for frame in context.decode(packet)]
    return {frame.pts: frame.to_ndarray().tobytes() for frame in frames}


def test_the_others_are_the_same_without_them(film: Path) -> None:
    with av.open(str(film)) as first, av.open(str(film)) as second:
        contexts: list[Any] = [c.streams.video[0].codec_context for c in (first, second)]
        packets: list[Any] = [p for p in first.demux(video=0) if p.size]
        inspector = inspector_for(contexts[0].name, contexts[0].extradata)
        assert inspector is not None
        roles = [inspector(memoryview(packet), packet.is_keyframe) for packet in packets]
        needed = [p for p, role in zip(packets, roles, strict=True) if role != PLAIN]
        left_out = {p.pts for p, role in zip(packets, roles, strict=True) if role == PLAIN}
        every, others = pictures(packets, contexts[0]), pictures(needed, contexts[1])
    assert len(every) == len(packets) == 60
    assert left_out
    assert others == {time: samples for time, samples in every.items() if time not in left_out}


@pytest.mark.parametrize("views", [1, 3])
def test_a_clip_is_as_a_full_decode_gives_it(film: Path, views: int) -> None:
    with film.open("rb") as source:
        planned, full = (
            decode_clip(source, SPEC, views=views, plan=plan) for plan in ("auto", "full")
        )
    assert np.array_equal(planned.frames, full.frames)
    assert planned.info == full.info


# The header of a stream whose pictures say for themselves whether they are of a screen, and have an
# order of seven bits.
HEADER = "81 00 0c 00 0a 0a 00 00 00 03 b5 ff f0 0b e0 01"
EXISTING, INTER, SWITCH = [(1, 1)], [(1, 0), (2, 1)], [(1, 0), (2, 3)]
SHOWN, HIDDEN = [(1, 1)], [(1, 0), (1, 0)]
PLAIN_FIELDS = [(1, 0), (1, 0), (1, 0), (1, 0), (7, 9), (3, 0)]
RESILIENT_ON_SCREEN = [(1, 1), (1, 0), (1, 1), (1, 0), (1, 0), (7, 9)]


def frame(*fields: tuple[int, int], kind: int = 6, layered: bool = False) -> bytes:
    """An OBU of 12 bytes that begins with these numbers, given as (bits, value)."""
    text = "".join(f"{value:0{bits}b}" for bits, value in fields)
    payload = int(text.ljust(8 * 12, "0"), 2).to_bytes(12, "big")
    extension = b"\x08" if layered else b""
    return bytes([kind << 3 | 0x02 | (0x04 if layered else 0)]) + extension + b"\x0c" + payload


NONE, ONE = [(8, 0)], [(8, 0x10)]
LEAF = frame(*INTER, *SHOWN, *PLAIN_FIELDS, *NONE)


@pytest.mark.parametrize(
    ("unit", "key", "header", "expected"),
    [
        (LEAF, False, HEADER, PLAIN),
        (b"\x12\x00" + LEAF, False, HEADER, PLAIN),  # behind a delimiter
        (frame(*INTER, *SHOWN, *PLAIN_FIELDS, *ONE), False, HEADER, REFERENCE),
        (frame(*INTER, *SHOWN, *RESILIENT_ON_SCREEN, *NONE), False, HEADER, PLAIN),
        (frame(*INTER, *SHOWN, *RESILIENT_ON_SCREEN, *ONE), False, HEADER, REFERENCE),
        (frame(*INTER, *HIDDEN, *PLAIN_FIELDS, *NONE), False, HEADER, PLAIN),
        (frame(*INTER, *HIDDEN, *PLAIN_FIELDS, *ONE) + LEAF, False, HEADER, REFERENCE),
        (frame(*SWITCH, *SHOWN, *PLAIN_FIELDS, *NONE), False, HEADER, REFERENCE),
        (frame(*EXISTING, kind=3), False, HEADER, REFERENCE),
        (frame(*INTER, *SHOWN, *PLAIN_FIELDS, *NONE, layered=True), False, HEADER, REFERENCE),
        (bytes.fromhex(HEADER)[4:] + LEAF, False, HEADER, REFERENCE),
        (LEAF, True, HEADER, REFERENCE | ENTRY),
        (LEAF, False, "", REFERENCE),
        (LEAF, False, "81 00 0c 00 0a 02 00 00", REFERENCE),
        (b"\x32\x02" + LEAF[2:4], False, HEADER, REFERENCE),  # ends within its header
        (LEAF[:-1], False, HEADER, None),
    ],
)
def test_roles(unit: bytes, key: bool, header: str, expected: Role | None) -> None:
    inspector = inspector_for("libdav1d", bytes.fromhex(header))
    assert inspector is not None
    assert inspector(memoryview(unit), key) == expected
