"""Files that break off, files with another behind them, and files whose video is encrypted: told by
the container, whose demuxer passes over it.
"""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from model.inputs import Clip, InputSpec, VideoWarning, decode_clip
from model.inputs.errors import Encrypted
from model.inputs.video import ebml
from model.inputs.video.encryption import ASF_OBJECTS
from model.inputs.video.source import SharedFile

Encode = Callable[..., io.BytesIO]
Make = Callable[..., bytes]

SPEC = InputSpec(num_frames=8, image_size=48, resize_short_side=48)
FRAMES = 60
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
# The encoder and the container's own options.
FORMS: dict[str, tuple[str, str, dict[str, str]]] = {
    "mp4": ("libx264", "mp4", {"movflags": "faststart"}),
    "mp4 in fragments": ("libx264", "mp4", FRAGMENTS),
    "avi": ("mpeg4", "avi", {}),
    "flv": ("flv", "flv", {}),
    "webm": ("libvpx", "webm", {}),
    "matroska": ("libx264", "matroska", {}),
    "webm, live": ("libvpx", "webm", {"live": "1"}),
}
# Of the others FFmpeg reads both.
JOINED = ("mp4", "mp4 in fragments", "flv")


@pytest.fixture(scope="module")
def made(encode_video: Encode, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A film in one of the forms, encoded once."""
    films: dict[str, bytes] = {}

    def make(form: str) -> bytes:
        if form not in films:
            codec, container, options = FORMS[form]
            films[form] = encode_video(
                codec,
                FRAMES,
                container=container,
                options={"g": "12"},
                container_options=options,
                path=tmp_path_factory.mktemp("films") / "film",
            ).getvalue()
        return films[form]

    return make


def read(data: bytes) -> Clip:
    return decode_clip(io.BytesIO(data), SPEC)


@pytest.mark.parametrize("form", FORMS)
def test_a_whole_file_is_read_without_a_word(form: str, made: Make) -> None:
    clip = read(made(form))
    assert clip.info.frames == FRAMES
    assert clip.info.warnings == ()


@pytest.mark.parametrize("form", FORMS)
def test_a_transfer_that_broke_off_is_said(form: str, made: Make) -> None:
    data = made(form)
    clip = read(data[: len(data) * 4 // 5])
    assert 0 < clip.info.frames < FRAMES
    if form != "webm, live":  # has no sizes that it could fall short of
        assert clip.info.warnings == (VideoWarning.CUT_OFF,)


@pytest.mark.parametrize("form", JOINED)
def test_a_file_behind_the_first_is_said(form: str, made: Make) -> None:
    clip = read(2 * made(form))
    assert clip.info.frames < 2 * FRAMES
    assert clip.info.warnings == (VideoWarning.JOINED,)


@pytest.mark.parametrize("form", FORMS)
def test_what_else_stands_behind_a_file_is_passed_over(form: str, made: Make) -> None:
    assert read(made(form) + bytes(50)).info.warnings == ()


def test_another_programme_in_the_middle_of_a_broadcast_is_said(encode_video: Encode) -> None:
    """It is seen neither at the beginning nor at the end, where demuxers look for streams."""

    def part(pid: int) -> bytes:
        options = {"preset": "ultrafast", "qp": "0", "g": "12"}
        pids = {"mpegts_start_pid": f"{pid}"}
        return encode_video(
            "libx264", 90, container="mpegts", size=(640, 480), options=options,
            container_options=pids,
        ).getvalue()  # fmt: skip

    film, other = part(0x100), part(0x200)
    assert len(film) > 6 << 20
    clip = read(film + other + film)
    assert clip.info.frames == 180
    assert clip.info.warnings == (VideoWarning.HOLE,)
    assert read(film + film).info.warnings == ()


def test_a_scrambled_broadcast_is_encrypted(encode_video: Encode) -> None:
    data = bytearray(encode_video("libx264", FRAMES, container="mpegts").getvalue())
    for position in range(0, len(data), 188):
        pid = (data[position + 1] & 0x1F) << 8 | data[position + 2]
        if pid == 0x100:
            data[position + 3] |= 0x80
            data[position + 20 : position + 188] = bytes(
                b ^ 0x5A for b in data[position + 20 : position + 188]
            )
    with pytest.raises(Encrypted):
        read(bytes(data))


def test_a_protected_windows_media_file_is_encrypted(encode_video: Encode) -> None:
    data = encode_video("wmv2", FRAMES, container="asf").getvalue()
    for kind in ASF_OBJECTS:
        with pytest.raises(Encrypted):
            read(with_asf_object(data, kind))


def with_asf_object(data: bytes, kind: bytes) -> bytes:
    """Add an object of so many zeros to the header of an ASF file."""
    item = kind + (24 + 32).to_bytes(8, "little") + bytes(32)
    size = int.from_bytes(data[16:24], "little") + len(item)
    count = int.from_bytes(data[24:28], "little") + 1
    head = data[:16] + size.to_bytes(8, "little") + count.to_bytes(4, "little") + data[28:30]
    return head + item + data[30:]


def test_encrypted_matroska_is_encrypted(made: Make) -> None:
    with pytest.raises(Encrypted):
        read(with_encryption(made("webm, live")))


def with_encryption(webm: bytes) -> bytes:
    """Say of the one track of a live WebM, whose segment has no size, that it is encrypted."""
    file = SharedFile(io.BytesIO(webm))
    segment = ebml._first(file, ebml.SEGMENT, 0, file.size)
    assert segment is not None
    assert segment.end is None
    tracks = ebml._first(file, ebml.TRACKS, segment.begin, file.size)
    assert tracks is not None
    assert tracks.end is not None
    track = ebml._first(file, ebml.TRACK, tracks.begin, tracks.end)
    assert track is not None
    assert track.end is not None
    encryption = element(ebml.CONTENT_ENCRYPTION, element(0x47E1, b"\x05"))
    encoding = element(ebml.CONTENT_ENCODING, element(0x5033, b"\x01") + encryption)
    contents = webm[track.begin : track.end] + element(ebml.CONTENT_ENCODINGS, encoding)
    whole = element(ebml.TRACKS, element(ebml.TRACK, contents))
    begin = webm.rindex(ebml.TRACKS.to_bytes(4, "big"), 0, tracks.begin)
    return webm[:begin] + whole + webm[tracks.end :]


def element(kind: int, contents: bytes) -> bytes:
    """An element with a size of eight bytes."""
    name = kind.to_bytes(-(-kind.bit_length() // 8), "big")
    return name + (1 << 56 | len(contents)).to_bytes(8, "big") + contents
