"""Roles of coded pictures, read off a few bytes."""

from __future__ import annotations

import pytest

from model.inputs.video.bitstream import inspector_for
from model.inputs.video.bitstream.role import ENTRY, HIDDEN, PLAIN, REFERENCE, Role

AVCC = bytes.fromhex("01 64 00 0a ff e1 0004 67 64 00 0a 01 0003 68 ee 3c")
HVCC = bytes([1, *[0] * 20, 3, 0])


def nal(*units: str) -> bytes:
    """Length-prefixed units, from hexadecimal."""
    parts = [bytes.fromhex(unit) for unit in units]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def role(
    codec: str, header: bytes, data: bytes, key: bool = False, *, cut: bool = False
) -> Role | None:
    inspector = inspector_for(codec, header, cut=cut)
    assert inspector is not None
    return inspector(memoryview(data), key)


@pytest.mark.parametrize(
    ("units", "key", "expected"),
    [
        (("65 88 84 00",), True, ENTRY | REFERENCE),
        (("06 05 01 00 80", "65 88 84 00"), True, ENTRY | REFERENCE),
        (("41 9a 24 6c",), False, REFERENCE),
        (("01 9e 42 78",), False, PLAIN),
        (("41 9a 24 6c", "41 02 24 6c"), False, REFERENCE),  # two slices of one picture
        (("06 06 01 c4 80", "41 88 84 00"), True, ENTRY | REFERENCE),  # exact recovery point
        (("06 06 01 84 80", "41 88 84 00"), True, REFERENCE),  # an inexact one
        (("06 06 01 24 80", "41 88 84 00"), True, REFERENCE),  # one that takes a while
        (("41 88 84 00",), True, REFERENCE),  # a key frame that promises nothing
        (("67 64 00 0a", "65 88 84 00"), True, ENTRY | REFERENCE),  # the set that we know
        (("67 64 00 0b", "65 88 84 00"), True, ENTRY | REFERENCE),  # another, before all pictures
        (("41 9a 24 6c", "41 9a 24 6c"), False, None),  # two pictures
        (("c1 9a 24 6c",), False, None),  # forbidden bit
        (("42 9a 24 6c",), False, None),  # data partition
        (("41 02 24 6c",), False, None),  # begins in the middle of a picture
        (("41 84 24 6c",), False, None),  # no such slice type
        (("06 05 01 00 80",), False, None),  # no picture
    ],
)
def test_h264(units: tuple[str, ...], key: bool, expected: Role | None) -> None:
    assert role("h264", AVCC, nal(*units), key) == expected


@pytest.mark.parametrize("damage", [b"\0" * 8, nal("41 9a 24 6c")[:-1], nal("41 9a 24") + b"\0"])
def test_h264_units_must_fill_the_packet(damage: bytes) -> None:
    assert role("h264", AVCC, damage) is None


def test_h264_parameter_sets_that_change_in_mid_stream_end_planning() -> None:
    inspector = inspector_for("h264", AVCC)
    assert inspector is not None
    assert inspector(memoryview(nal("65 88 84 00")), True) is not None
    assert inspector(memoryview(nal("67 64 00 0a", "65 88 84 00")), True) is not None
    assert inspector(memoryview(nal("67 64 00 1f", "65 88 84 00")), True) is None


def test_h264_with_start_codes() -> None:
    data = bytes.fromhex("00000001 09f0 00000001 6764000a 000001 68ee3c 000001 65888400")
    assert role("h264", b"", data, True) == ENTRY | REFERENCE


def test_glance_agrees_with_a_full_look() -> None:
    for unit in ("41 9a 24 6c", "01 9e 42 78", "41 02 24 6c", "65 88 84 00"):
        inspector = inspector_for("h264", AVCC)
        assert inspector is not None
        data = nal(unit)
        glance = inspector.glance(data[:8], len(data))
        assert glance in (None, inspector(memoryview(data), False))
        assert inspector.glance(data[:8], len(data) + 1) is None


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (["26 01 af 00"], [ENTRY | REFERENCE]),  # IDR
        (["26 01 af", "02 01 d0", "00 01 e0"], [ENTRY | REFERENCE, REFERENCE, PLAIN]),
        (["2a 01 af", "10 01 d0"], [ENTRY | REFERENCE, PLAIN | HIDDEN]),  # CRA first, RASL
        (["26 01 af", "2a 01 af", "10 01 d0"], [ENTRY | REFERENCE, ENTRY | REFERENCE, PLAIN]),
        (["02 01 d0"], [None]),  # no key frame first
        (["26 01 af", "02 02 d0"], [ENTRY | REFERENCE, None]),  # a temporal layer
        (["26 01 af", "26 01 ef"], [ENTRY | REFERENCE, None]),  # throws earlier pictures away
        (["26 01 2f"], [None]),  # begins in the middle of a picture
        (["48 01 00"], [None]),  # end of sequence
    ],
)
def test_hevc(stream: list[str], expected: list[Role | None]) -> None:
    inspector = inspector_for("hevc", HVCC)
    assert inspector is not None
    assert [inspector(memoryview(nal(unit)), False) for unit in stream] == expected


@pytest.mark.parametrize(
    ("data", "key", "expected"),
    [
        ("10 02 00 9d 01 2a 40 00 30 00", True, ENTRY | REFERENCE),
        ("31 02 00 00 00 00 00 00 00 00", False, REFERENCE),
        ("21 02 00 00 00 00 00 00 00 00", False, REFERENCE | HIDDEN),
        ("31 02 00 00 00 00 00 00 00 00", True, None),
        ("10 02 00 00 00 00 40 00 30 00", True, None),
        ("31", False, None),
    ],
)
def test_vp8(data: str, key: bool, expected: Role | None) -> None:
    assert role("vp8", b"", bytes.fromhex(data), key) == expected


@pytest.mark.parametrize(
    ("data", "key", "expected"),
    [
        ("82 49 83 42 00", True, ENTRY | REFERENCE),
        ("86 00 40 92", False, REFERENCE),
        ("84 00 40 92", False, REFERENCE | HIDDEN),
        ("88 00", False, REFERENCE),
        ("84 00 40 86 00 40 c9 03 00 03 00 c9", False, REFERENCE),  # hidden and shown together
        ("86 00 40 86 00 40 c9 03 00 03 00 c9", False, None),  # two shown
        ("84 00 40 86 00 40 c9 09 00 03 00 c9", False, None),  # sizes do not add up
        ("46 00 40", False, None),
        ("86 49 83 42 00", True, None),
    ],
)
def test_vp9(data: str, key: bool, expected: Role | None) -> None:
    assert role("vp9", b"", bytes.fromhex(data), key) == expected


@pytest.mark.parametrize(
    ("data", "key", "expected"),
    [
        ("12 00 0a 01 00 32 02 10 00", True, ENTRY | REFERENCE),
        ("32 02 30 00", False, REFERENCE),
        ("1a 01 e8", False, REFERENCE),
        ("32 7f 30 00", False, None),  # longer than the packet
        ("0a 01 00", False, None),  # no frame
        ("b2 02 30 00", False, None),  # forbidden bit
    ],
)
def test_av1(data: str, key: bool, expected: Role | None) -> None:
    assert role("libdav1d", b"", bytes.fromhex(data), key) == expected


SEQUENCE = "00 00 01 b3 08 00 60 13 ff ff e0 18 "


@pytest.mark.parametrize(
    ("data", "key", "expected"),
    [
        (SEQUENCE + "00 00 01 00 00 0f ff f8", True, ENTRY | REFERENCE),
        (SEQUENCE + "00 00 01 00 00 17 ff f8", False, REFERENCE),
        (SEQUENCE + "00 00 01 00 00 1f ff f8", False, PLAIN),
        (SEQUENCE + "00 00 01 00 00 0f ff f8 00 00 01 b5 8f ff f3 80", True, ENTRY | REFERENCE),
        (SEQUENCE + "00 00 01 00 00 0f ff f8 00 00 01 b5 8f ff f1 80", True, None),  # a field
        (SEQUENCE + "00 00 01 00 00 0f ff f8 00 00 01 b5 30 00 00 00", True, None),  # tables
        (SEQUENCE + "00 00 01 b5 30 00 00 00 00 00 01 00 00 0f ff f8", True, None),  # before it
        (SEQUENCE + "00 00 01 00 00 0f ff f8 00 00 01 b5 35 00 00 01 01", True, None),  # cut short
        (SEQUENCE + "00 00 01 00 00 0f ff f8 00 00 01 00 00 0f", True, None),  # two pictures
        ("00 00 01 00 00 0f ff f8", True, None),  # no sequence header yet
    ],
)
def test_mpeg2(data: str, key: bool, expected: Role | None) -> None:
    assert role("mpeg2video", b"", bytes.fromhex(data), key) == expected
    assert role("mpeg2video", b"", bytes.fromhex(data), key, cut=True) == expected


def test_slices_of_mpeg2_are_searched_where_no_demuxer_has_cut_them() -> None:
    picture = "00 00 01 00 00 0f ff f8 00 00 01 b5 8f ff f3 80 00 00 01 01 22 33 "
    two = bytes.fromhex(SEQUENCE + picture + picture)
    assert role("mpeg2video", b"", two, True) is None
    assert role("mpeg2video", b"", two, True, cut=True) == ENTRY | REFERENCE
    behind_slices = bytes.fromhex("00 00 01 01 22 33" + SEQUENCE + picture)
    assert role("mpeg2video", b"", behind_slices, True) is None


@pytest.mark.parametrize("at", [(1 << 20) - 1, (1 << 20) + 2, (1 << 21) + 7])
def test_a_second_picture_is_found_wherever_it_begins(at: int) -> None:
    picture = SEQUENCE + "00 00 01 00 00 0f ff f8 00 00 01 01"
    data = bytearray(bytes.fromhex(picture) + b"\1" * (3 << 20))
    assert role("mpeg2video", b"", bytes(data), True) == ENTRY | REFERENCE
    data[at : at + 4] = bytes.fromhex("00 00 01 00")
    assert role("mpeg2video", b"", bytes(data), True) is None


@pytest.mark.parametrize(
    ("data", "key", "expected"),
    [
        ("00 00 01 b6 10 60 91 82 3d b7", True, ENTRY | REFERENCE),
        ("00 00 01 b6 50 60 91 82 3d b7", False, REFERENCE),
        ("00 00 01 b6 90 60 91 82 3d b7", False, PLAIN),
        ("00 00 01 b6 d0 60 91 82 3d b7", False, None),  # a sprite
        ("00 00 01 b6 50 60", False, None),  # stands for a repeated picture
        ("00 00 01 b6 50 60 91 82 00 00 01 b6 90 60 91 82", False, None),  # packed
        ("00 00 01 b2 44 69 76 58 00 00 01 b6 50 60 91 82 3d", False, None),  # DivX
    ],
)
def test_mpeg4(data: str, key: bool, expected: Role | None) -> None:
    assert role("mpeg4", b"", bytes.fromhex(data), key) == expected


@pytest.mark.parametrize("codec", ["ffvhuff", "dnxhd", "rawvideo"])
def test_pictures_that_stand_alone(codec: str) -> None:
    assert role(codec, b"", b"\1\2", key=True) == ENTRY
    assert role(codec, b"", b"", key=True) is None
    assert role(codec, b"", b"\1\2", key=False) is None


@pytest.mark.parametrize(
    ("data", "expected"),
    [("ff d8 ff e0 55 ff d9", ENTRY), ("ff d8 55 ff d9 00 00", ENTRY), ("ff d8 ff e0 55 57", None)],
)
def test_jpeg_pictures_must_have_an_end(data: str, expected: Role | None) -> None:
    assert role("mjpeg", b"", bytes.fromhex(data), key=True) == expected


def test_other_codecs_have_no_inspector() -> None:
    assert inspector_for("cinepak", None) is None


def test_prores_pictures_state_their_size() -> None:
    whole = (12).to_bytes(4, "big") + b"icpf" + b"\x01\x02\x03\x04"
    assert role("prores", b"", whole, key=True) == ENTRY
    assert role("prores", b"", whole[:-1], key=True) is None
    assert role("prores", b"", whole[1:] + b"\0", key=True) is None
