"""Files drawn at random, whole, cut and joined: however they are read, the frames are those of a
full decode, and as many as FFmpeg's own decoder gives.

Damage inside a coded picture is the one thing a plan cannot see (docs/inputs.md), so it is tried in
`test_long_files.py`, where it begins with a packet.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

import model.inputs.video.indexed
import model.inputs.video.packet_reader
import model.inputs.video.packets
from model.inputs import Clip, FrameRule, InputSpec, VideoError, decode_clip

SPEC = InputSpec(num_frames=8, image_size=32, resize_short_side=32)
SEEDS = range(60)
X265_QUIET = "log-level=none:"


def draw_codec(rng: random.Random) -> tuple[str, dict[str, str], tuple[str, ...]]:
    """A codec, options of its encoder, and the containers that hold it."""
    gop, b_frames = str(rng.choice([1, 7, 24, 60, 250])), str(rng.randrange(4))
    x264 = f"keyint={gop}:bframes={b_frames}:open-gop={rng.randrange(2)}:cabac={rng.randrange(2)}"
    x264 += f":b-pyramid={rng.choice(['none', 'strict', 'normal'])}:ref={rng.randint(1, 5)}"
    x265 = f"{X265_QUIET}keyint={gop}:bframes={b_frames}:open-gop={rng.randrange(2)}"
    vpx = {"g": gop, "auto-alt-ref": "1", "lag-in-frames": "12", "cpu-used": "8"}
    every = ("mp4", "mov", "matroska", "mpegts")
    return rng.choice(
        [
            ("libx264", {"preset": "veryfast", "x264-params": x264}, (*every, "flv", "avi")),
            ("libx264", {"preset": "veryfast", "x264-params": x264}, (*every, "flv", "avi")),
            ("libx265", {"preset": "ultrafast", "x265-params": x265}, every),
            ("libvpx", vpx, ("webm", "matroska", "ogg")),
            ("libvpx-vp9", vpx, ("webm", "mp4")),
            ("libsvtav1", {"preset": "12", "g": gop}, ("webm", "mp4")),
            ("mpeg2video", {"g": gop, "bf": b_frames}, ("mpegts", "matroska", "mpeg")),
            ("mpeg4", {"g": gop, "bf": b_frames}, ("avi", "mp4", "matroska")),
            ("mjpeg", {}, ("avi", "mov")),
            ("prores_ks", {}, ("mov",)),
        ]
    )


PIXELS = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}


def times(rng: random.Random, frames: int) -> Iterator[int]:
    """Times of pictures at a steady rate, a varying one, or with a pause."""
    kind, now = rng.choice(["steady", "steady", "varying", "pause"]), 0
    for number in range(frames):
        yield now
        pause = 200 if kind == "pause" and number == frames // 2 else 0
        now += pause + (rng.randint(1, 4) if kind == "varying" else 1)


def make(rng: random.Random, codec: str, options: dict[str, str], container: str) -> bytes:
    """A film of 80 to 160 pictures with something moving in it."""
    target = io.BytesIO()
    frames = rng.randint(80, 160)
    moving = np.random.default_rng(rng.randrange(1 << 30)).integers(0, 255, (48, 64, 3), np.uint8)
    container_options = {}
    if container in ("mp4", "mov") and rng.random() < 0.3:
        container_options = {"movflags": "frag_keyframe+empty_moov"}
    with av.open(target, "w", format=container, options=container_options) as output:
        stream: Any = output.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, PIXELS.get(codec, "yuv420p")
        stream.codec_context.thread_count = 1
        for number, now in enumerate(times(rng, frames)):
            frame = av.VideoFrame.from_ndarray(np.roll(moving, number, axis=1))
            frame.pts, frame.time_base = now, Fraction(1, 30)
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    return target.getvalue()


def change(rng: random.Random, data: bytes, container: str) -> bytes:
    """The file as it is, cut off, or followed by itself."""
    kind = rng.choice(["whole", "joined", "cut"])
    if kind == "joined" and container in ("mpegts", "mpeg", "webm", "matroska", "ogg"):
        return data + data
    if kind == "cut":
        return data[: rng.randint(len(data) // 3, len(data))]
    return data


def counted(data: bytes) -> int:
    """How many pictures FFmpeg's decoder makes of the file, errors passed over."""
    with av.open(io.BytesIO(data), "r", metadata_errors="replace") as container:
        stream = container.streams.video[0]
        # With more threads a decoder drops pictures around a damaged one.
        stream.codec_context.thread_count = 1
        count = 0
        for packet in container.demux(stream):
            try:
                count += len(stream.codec_context.decode(packet if packet.size else None))
            except (av.FFmpegError, EOFError):
                continue
        return count


def outcome(data: bytes, **request: Any) -> Clip | str:
    try:
        return decode_clip(io.BytesIO(data), SPEC, **request)
    except VideoError as error:
        return type(error).__name__


def same(one: Clip | str, other: Clip | str) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return one == other
    return np.array_equal(one.frames, other.frames) and one.info == other.info


@pytest.mark.parametrize("seed", SEEDS)
def test_every_way_of_reading_gives_the_frames_of_a_full_decode(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    codec, options, containers = draw_codec(rng)
    container = rng.choice(containers)
    data = change(rng, make(rng, codec, options, container), container)
    start = rng.uniform(0, 3)
    asked: list[dict[str, Any]] = [{}, {"views": 3}, {"start": start, "end": start + 1}]
    requests = [{**request, "frame_rule": rule} for rule in FrameRule for request in asked]
    full = [outcome(data, plan="full", **request) for request in requests]
    if isinstance(full[0], Clip):
        assert full[0].info.frames == counted(data)
    for kept_bytes, fewest in ((16 << 20, 1000), (0, 1000), (16 << 20, 50)):
        monkeypatch.setattr(model.inputs.video.packets, "KEEP_BYTES", kept_bytes)
        monkeypatch.setattr(model.inputs.video.packet_reader, "SHORT_WAY_BYTES", 0)
        monkeypatch.setattr(model.inputs.video.indexed, "FEWEST_PACKETS", fewest)
        for request, expected in zip(requests, full, strict=True):
            assert same(outcome(data, **request), expected), (codec, container, options, request)
