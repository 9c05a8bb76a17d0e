"""Generated longer files: sampling from an index or a packet list gives exactly the frames of a
full decode, and looks at a small part of the file.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import model.inputs.video.clip_reader
import model.inputs.video.frames
import model.inputs.video.indexed
import model.inputs.video.packet_reader
import model.inputs.video.packets
import model.inputs.video.sample
from model.inputs import Clip, FrameRule, InputSpec, VideoError, VideoLimits, decode_clip
from model.inputs.video.container import open_video, packets_of
from model.inputs.video.packets import list_packets
from model.inputs.video.planner import schedule
from model.inputs.work import Work

FRAMES = 400
SPEC = InputSpec(num_frames=8, image_size=48, resize_short_side=48)
X264_OPEN = {"bf": "5", "g": "30", "x264-params": "open-gop=1:b-pyramid=normal"}
QUIET = "log-level=none:"

PLANNED = [
    ("libx264", "mp4", {"preset": "veryfast", "g": "50"}),
    ("libx264", "mp4", X264_OPEN),
    ("libx264", "matroska", X264_OPEN),
    ("libx264", "mp4", {"x264-params": "ref=6:bframes=8:b-pyramid=strict:weightp=2:keyint=60"}),
    ("libx264", "mp4", {"x264-params": "slices=4:sliced-threads=0:keyint=60"}),
    ("libx264", "mp4", {"preset": "veryfast", "x264-params": "intra-refresh=1:keyint=40"}),
    ("libx264", "mpegts", {"bf": "3", "g": "30"}),
    ("libx264", "flv", {"preset": "veryfast", "g": "50"}),
    ("libx265", "mp4", {"preset": "veryfast", "x265-params": QUIET + "keyint=40"}),
    ("libx265", "matroska", {"preset": "veryfast", "x265-params": QUIET + "open-gop=0:keyint=40"}),
    ("libvpx", "webm", {"g": "60", "auto-alt-ref": "1", "lag-in-frames": "16"}),
    ("libvpx-vp9", "webm", {"g": "60", "cpu-used": "8", "auto-alt-ref": "1"}),
    ("libsvtav1", "mp4", {"preset": "12", "g": "60"}),
    ("mpeg2video", "mpegts", {"g": "12", "bf": "2"}),
    ("mpeg4", "avi", {"g": "12", "bf": "2"}),
    ("mpeg4", "mp4", {"g": "24"}),
    ("mjpeg", "avi", {}),
]
WHOLE = [
    ("libx264", "avi", {"bf": "2"}),  # stores no times of showing
    ("libx264", "mp4", {"preset": "veryfast", "x264-params": "interlaced=1"}),
    ("libx265", "mp4", {"preset": "veryfast", "x265-params": QUIET + "temporal-layers=2"}),
    ("wmv2", "asf", {}),  # no inspector
    ("flv", "flv", {}),
]
REQUESTS: list[dict[str, Any]] = [
    {},
    {"views": 3},
    {"start": 5.0, "end": 9.0},
    {"start": 11.501},
    {"start": 6.5, "end": 6.6},
    {"frame_rule": FrameRule.KEYFRAMES},
    {"frame_rule": FrameRule.KEYFRAMES, "views": 3},
    {"frame_rule": FrameRule.KEYFRAMES, "start": 3.3, "end": 9.0},
]


def case_id(case: tuple[str, str, Mapping[str, str]]) -> str:
    return f"{case[0]}-{case[1]}-{'-'.join(case[2].values())}".replace(QUIET, "")


Make = Callable[[tuple[str, str, Mapping[str, str]]], io.BytesIO]


@pytest.fixture
def make(encode_video: Callable[..., io.BytesIO]) -> Make:
    def make_one(case: tuple[str, str, Mapping[str, str]]) -> io.BytesIO:
        codec, container, options = case
        pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        return encode_video(codec, FRAMES, container=container, options=options, pixels=pixels)

    return make_one


def same(one: Clip, other: Clip) -> bool:
    return np.array_equal(one.frames, other.frames) and one.info == other.info


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes how each request was answered: by runs, or by decoding everything."""
    notes: list[str] = []

    def note(name: str) -> None:
        original = getattr(model.inputs.video.frames, name)

        def noting(*arguments: Any) -> Any:
            notes.append(name)
            return original(*arguments)

        for module in (model.inputs.video.sample, model.inputs.video.indexed):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, noting)

    note("decode_runs")
    note("decode_all")
    return notes


@pytest.mark.parametrize("case", PLANNED, ids=case_id)
def test_planned_frames_are_those_of_a_full_decode(
    case: tuple[str, str, Mapping[str, str]],
    make: Make,
    decoded: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = make(case)
    full = [decode_clip(source, SPEC, plan="full", **request) for request in REQUESTS]
    assert full[0].info.frames == FRAMES
    monkeypatch.setattr(model.inputs.video.packet_reader, "SHORT_WAY_BYTES", 0)
    ways: list[Callable[[], None]] = [
        lambda: None,
        lambda: monkeypatch.setattr(model.inputs.video.packets, "KEEP_BYTES", 0),
        lambda: monkeypatch.setattr(model.inputs.video.indexed, "FEWEST_PACKETS", 100),
    ]
    for prepare in ways:
        prepare()
        decoded.clear()
        for request, expected in zip(REQUESTS, full, strict=True):
            assert same(decode_clip(source, SPEC, **request), expected)
        assert "decode_all" not in decoded


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_transport_stream_is_read_again_where_the_frames_are(
    codec: str, make: Make, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.inputs.video.packets, "KEEP_BYTES", 0)
    monkeypatch.setattr(model.inputs.video.packet_reader, "SHORT_WAY_BYTES", 0)
    source = make((codec, "mpegts", {"g": "12", "bf": "2"}))
    expected = decode_clip(source, SPEC, plan="full")
    passed: list[int] = []

    def counted(video: Any) -> Iterator[Any]:
        for packet in packets_of(video):
            passed.append(packet.pos)
            yield packet

    monkeypatch.setattr(model.inputs.video.packet_reader, "packets_of", counted)
    decoded.clear()
    assert same(decode_clip(source, SPEC), expected)
    assert "decode_all" not in decoded
    assert 8 <= len(passed) <= 8 * 12 < FRAMES
    assert passed == sorted(set(passed))


@pytest.mark.parametrize("container", ["mpegts", "matroska"])
def test_a_jump_that_leads_elsewhere_is_noticed(
    container: str, make: Make, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where what is read there is not the packet that was listed, the file is decoded whole."""
    source = make(("libx264", container, {"bf": "0", "g": "30"}))
    expected = decode_clip(source, SPEC, plan="full")
    monkeypatch.setattr(model.inputs.video.packets, "KEEP_BYTES", 0)
    original = list_packets

    def shifted(*arguments: Any) -> Any:
        packets = original(*arguments)
        packets.places = [(offset + 188, size) for offset, size in packets.places or ()]
        return packets

    monkeypatch.setattr(model.inputs.video.clip_reader, "list_packets", shifted)
    decoded.clear()
    assert same(decode_clip(source, SPEC), expected)
    assert "decode_all" in decoded


@pytest.mark.parametrize("codec", ["mpeg4", "mjpeg", "libx264"])
def test_chunks_of_an_avi_are_read_where_they_lie(
    codec: str, make: Make, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And in turn, without a jump, where they do not lie as the demuxer gave them."""
    monkeypatch.setattr(model.inputs.video.packets, "KEEP_BYTES", 0)
    monkeypatch.setattr(model.inputs.video.packet_reader, "SHORT_WAY_BYTES", 0)
    options = {"preset": "veryfast", "bf": "0", "g": "12"} if codec == "libx264" else {"bf": "2"}
    source = make((codec, "avi", {} if codec == "mjpeg" else options))
    expected = decode_clip(source, SPEC, plan="full")
    in_turn: list[int] = []

    def counted(video: Any) -> Iterator[Any]:
        for packet in packets_of(video):
            in_turn.append(packet.pos)
            yield packet

    def never(*_: Any) -> Any:
        raise AssertionError("the index of an AVI may lead elsewhere")

    monkeypatch.setattr(model.inputs.video.packet_reader, "_seek", never)
    monkeypatch.setattr(model.inputs.video.packet_reader, "packets_of", counted)
    for length_bytes, is_read_in_turn in ((4, False), (5, True)):
        monkeypatch.setattr(model.inputs.video.packet_reader, "LENGTH_BYTES", length_bytes)
        decoded.clear()
        assert same(decode_clip(source, SPEC), expected)
        assert "decode_all" not in decoded
        assert bool(in_turn) == is_read_in_turn


@pytest.mark.parametrize("case", WHOLE, ids=case_id)
def test_files_that_do_not_tell_are_decoded_whole(
    case: tuple[str, str, Mapping[str, str]], make: Make, decoded: list[str]
) -> None:
    source = make(case)
    expected = decode_clip(source, SPEC, plan="full")
    decoded.clear()
    assert same(decode_clip(source, SPEC), expected)
    assert "decode_runs" not in decoded


def test_index_reads_little_of_a_long_file(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.inputs.video.indexed, "FEWEST_PACKETS", 100)
    listed: list[Any] = []

    def noted(*arguments: Any) -> Any:
        listed.append(arguments)
        return list_packets(*arguments)

    monkeypatch.setattr(model.inputs.video.clip_reader, "list_packets", noted)
    decode_clip(make(("libx264", "mp4", {"preset": "veryfast", "g": "50"})), SPEC)
    assert not listed


@pytest.mark.parametrize("frames", [1, 2])
def test_a_large_file_may_hold_one_picture(
    frames: int, encode_video: Callable[..., io.BytesIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a song with its cover does."""
    monkeypatch.setattr(model.inputs.video.sample, "KEEP_BYTES", 0)
    source = encode_video("libx264", frames, container="mp4")
    assert same(decode_clip(source, SPEC), decode_clip(source, SPEC, plan="full"))


@pytest.mark.parametrize("rule", FrameRule)
def test_what_a_large_file_takes_is_told_before_it_is_read(
    rule: FrameRule, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told anew when it is read, nearly the same: the index knows no order of showing."""
    monkeypatch.setattr(model.inputs.video.sample, "KEEP_BYTES", 0)
    told: list[str | int] = []

    def noted(*arguments: Any) -> Any:
        told.append("read")
        return list_packets(*arguments)

    def note(work: Work) -> None:
        assert work.rule is rule
        told.append(work.pictures)

    monkeypatch.setattr(model.inputs.video.clip_reader, "list_packets", noted)
    source = make(("libx264", "mp4", {"preset": "veryfast", "g": "50"}))
    decode_clip(source, SPEC, frame_rule=rule, before=note)
    before, read, after = told
    assert read == "read"
    assert before == pytest.approx(after, rel=0.3)


@pytest.mark.parametrize("index_from", [100, 10_000], ids=["index", "list"])
def test_fragmented_file_is_not_taken_for_its_first_fragment(
    index_from: int,
    encode_video: Callable[..., io.BytesIO],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model.inputs.video.indexed, "FEWEST_PACKETS", index_from)
    source = encode_video(
        "libx264",
        FRAMES,
        options={"preset": "veryfast", "g": "150"},
        container_options={"movflags": "frag_keyframe+empty_moov"},
    )
    clip = decode_clip(source, SPEC)
    assert clip.info.frames == FRAMES
    assert same(clip, decode_clip(source, SPEC, plan="full"))


@pytest.mark.parametrize("index_from", [100, 10_000], ids=["index", "list"])
@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts"])
@pytest.mark.parametrize("damage", ["cut", "zeros", "noise"])
def test_broken_packets_lead_to_a_full_decode(
    damage: str,
    container: str,
    index_from: int,
    encode_video: Callable[..., io.BytesIO],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(model.inputs.video.indexed, "FEWEST_PACKETS", index_from)
    options = {"preset": "veryfast", "g": "50"}
    faststart = {"movflags": "faststart"} if container == "mp4" else {}
    whole = encode_video(
        "libx264",
        FRAMES,
        container=container,
        options=options,
        container_options=faststart,
        path=tmp_path / "clip",
    ).getvalue()
    # From the start of a packet: damage that begins inside a coded picture is what a plan cannot
    # see (docs/inputs.md), and where the middle of the file falls differs from encode to encode.
    with open_video(io.BytesIO(whole), VideoLimits()) as video:
        middle = [p.pos for p in video.container.demux(video.stream) if p.size][FRAMES // 2]
    damaged = {
        "cut": whole[:middle],
        "zeros": whole[:middle] + bytes(2000) + whole[middle + 2000 :],
        "noise": whole[:middle] + random.Random(0).randbytes(2000) + whole[middle + 2000 :],
    }[damage]
    full = decode_clip(io.BytesIO(damaged), SPEC, plan="full")
    assert full.info.frames < FRAMES
    assert same(decode_clip(io.BytesIO(damaged), SPEC), full)


def test_damaged_picture_in_a_decoded_stretch_leads_to_a_full_decode(
    make: Make, decoded: list[str]
) -> None:
    whole = bytearray(make(("libx264", "mp4", {"preset": "veryfast", "g": "400"})).getvalue())
    with open_video(io.BytesIO(whole), VideoLimits()) as video:
        packets = [p for p in video.container.demux(video.stream) if p.size]
    rng = np.random.default_rng(0)
    # Several: a decoder may take the damage of one for a picture.
    for victim in [p for p in packets[100:] if p.size > 60][:20]:
        assert victim.pos is not None
        whole[victim.pos + 12 : victim.pos + 60] = rng.bytes(48)
    expected = decode_clip(io.BytesIO(whole), SPEC, plan="full")
    decoded.clear()
    assert same(decode_clip(io.BytesIO(whole), SPEC), expected)
    assert decoded[0] == "decode_runs"
    assert "decode_all" in decoded


@pytest.mark.parametrize("codec", ["libx264", "libsvtav1"])
def test_of_one_group_what_is_shown_last_is_left_out(make: Make, codec: str) -> None:
    """A sixteenth of eight segments; of AV1 in layers also what nothing refers to."""
    source = make(
        (codec, "mp4", {"preset": "ultrafast" if codec == "libx264" else "12", "g": "999"})
    )
    planned, full = decode_clip(source, SPEC), decode_clip(source, SPEC, plan="full")
    assert planned.work is not None
    most = FRAMES - FRAMES // 16 + 1
    assert planned.work.pictures == most if codec == "libx264" else planned.work.pictures < most
    assert same(planned, full)


def test_random_damage_never_gives_anything_but_frames_or_a_video_error(make: Make) -> None:
    rng = random.Random(0)
    for case in PLANNED[::4]:
        whole = make(case).getvalue()
        for _ in range(15):
            damaged = bytearray(whole)
            for _ in range(rng.choice([1, 20, 400])):
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            try:
                clip = decode_clip(io.BytesIO(damaged), SPEC)
            except VideoError:
                continue
            assert clip.frames.shape == (1, 8, 48, 48, 3)


def test_threads_share_the_groups_of_an_index(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model.inputs.video.indexed, "FEWEST_PACKETS", 100)
    source = make(PLANNED[0])
    expected = decode_clip(source, SPEC, views=3, plan="full")
    for threads in (1, 2, 3, 64):
        assert same(decode_clip(source, SPEC, views=3, threads=threads), expected)


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize(
    "case",
    [
        ("libx264", "mp4", {"preset": "ultrafast", "g": "320", "bf": "0"}),
        ("libvpx-vp9", "webm", {"g": "320", "cpu-used": "8"}),
        ("mpeg2video", "mpegts", {"g": "320"}),
    ],
    ids=case_id,
)
def test_a_short_stretch_is_decoded_beside_a_long_one(
    case: tuple[str, str, Mapping[str, str]],
    kept: bool,
    make: Make,
    decoded: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = make(case)
    expected = decode_clip(source, SPEC, plan="full")
    if not kept:
        monkeypatch.setattr(model.inputs.video.packets, "KEEP_BYTES", 0)
    for threads, decoders in ((1, 1), (2, 2), (8, 1)):  # to eight threads it is no short one
        decoded.clear()
        assert same(decode_clip(source, SPEC, threads=threads), expected)
        assert decoded == ["decode_runs"] * decoders


def test_packets_over_the_same_bytes_are_refused(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.inputs.video.packets, "FREE_BYTES", 0)
    monkeypatch.setattr(model.inputs.video.packets, "MOST_OF_FILE", 0.5)
    with pytest.raises(VideoError, match="hold more than the file"):
        decode_clip(make(PLANNED[0]), SPEC)


def test_regular_files_are_recognised(make: Make) -> None:
    with open_video(make(PLANNED[0]), VideoLimits()) as video:
        order = schedule(list_packets(video, VideoLimits()))
    assert order is not None
    assert len(order.order) == FRAMES
