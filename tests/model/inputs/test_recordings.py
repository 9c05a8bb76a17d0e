"""Recordings as people have them: joined, with clocks that were set, in pieces, encrypted, with
streams beside the film. Every input is made here.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from model.inputs import (
    Clip,
    InputSpec,
    VideoError,
    VideoLimits,
    VideoWarning,
    decode_clip,
    decode_uncropped,
)
from model.inputs.errors import (
    Encrypted,
    IsPicture,
    MissingBeginning,
    MissingIndex,
    NoPackets,
    TooManyStreams,
    UnsupportedCodec,
)

Encode = Callable[..., io.BytesIO]

SPEC = InputSpec(num_frames=8, image_size=48, resize_short_side=48)
FRAMES, RATE = 60, 30
X264 = {"preset": "veryfast", "bf": "2", "g": "30"}
OTHER_X264 = {"preset": "veryfast", "x264-params": "cabac=0:qp=44:keyint=30:bframes=2"}


def both_ways(data: bytes, **request: Any) -> Clip:
    """The clip as decoded by plan, which must be what decoding everything gives."""
    planned = decode_clip(io.BytesIO(data), SPEC, **request)
    full = decode_clip(io.BytesIO(data), SPEC, plan="full", **request)
    assert np.array_equal(planned.frames, full.frames)
    assert planned.info == full.info
    return planned


def bars(data: bytes) -> list[int]:
    """The numbers that the sampled pictures show, modulo 256."""
    frames = decode_uncropped(io.BytesIO(data), SPEC, sampling="test").frames[0]
    numbers = []
    for frame in frames:
        row = frame[frame.shape[0] // 16].mean(axis=-1)
        cells = ((np.arange(8) + 0.5) * frame.shape[1] / 8).astype(int)
        numbers.append(int("".join("1" if row[c] > 127 else "0" for c in cells), 2))
    return numbers


# --- time ---------------------------------------------------------------------------------------

JOINED: dict[str, tuple[str, str, Mapping[str, str], int]] = {
    "transport stream": ("libx264", "mpegts", X264, 0),
    "transport stream of MPEG-2": ("mpeg2video", "mpegts", {"g": "12", "bf": "2"}, 0),
    "program stream": ("mpeg2video", "vob", {"g": "12", "bf": "2"}, 0),
    "MPEG-1": ("mpeg1video", "mpeg", {"g": "12"}, 0),
    "FLV tags": ("libx264", "flv", X264, 13),
    "chained Ogg": ("libvpx", "ogg", {}, 0),
    "WebM": ("libvpx", "webm", {}, 0),
    "Matroska": ("libx264", "matroska", X264, 0),
}


@pytest.mark.parametrize("kind", sorted(JOINED))
def test_joined_recordings_are_read_one_after_the_other(
    kind: str, encode_video: Encode, tmp_path: Path
) -> None:
    codec, container, options, header = JOINED[kind]
    one = encode_video(
        codec, FRAMES, container=container, options=options, path=tmp_path / "one"
    ).getvalue()
    joined = one + one[header:]
    clip = both_ways(joined)
    assert clip.info.frames == 2 * FRAMES
    assert clip.info.duration_s == pytest.approx(2 * FRAMES / RATE, abs=0.1)
    assert clip.info.fps == pytest.approx(RATE, abs=1)
    half = FRAMES / RATE
    assert both_ways(joined, start=half + 0.5).info.frames == pytest.approx(FRAMES - 15, abs=3)
    numbers = [(2 * i + 1) * 2 * FRAMES // 16 % FRAMES for i in range(8)]
    assert bars(joined) == numbers
    limits = VideoLimits(max_duration_s=half + 1)
    with pytest.raises(VideoError, match="longer than 3 seconds"):
        decode_clip(io.BytesIO(joined), SPEC, limits=limits)


@dataclass
class Stamps:
    """Writes a film whose packets carry other times than the encoder gave them."""

    container: str
    change: Callable[[int, int], int]

    def film(self) -> bytes:
        target = io.BytesIO()
        with av.open(target, "w", format=self.container) as output:
            stream: Any = output.add_stream("libx264", rate=RATE, options={"bf": "0", "g": "30"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number, packet in enumerate(coded(stream, FRAMES)):
                ticks = int(1 / (RATE * packet.time_base))
                packet.pts += self.change(number, ticks)
                if self.container != "mp4":  # there times of decoding must ascend
                    packet.dts = packet.pts
                output.mux(packet)
        return target.getvalue()


def coded(stream: Any, frames: int, first: int = 0) -> Sequence[Any]:
    """Packets of numbered pictures; the first of them has the number `first`."""
    packets = []
    width, height = stream.width, stream.height
    for number in range(first, first + frames):
        image = np.zeros((height, width, 3), np.uint8)
        image[: height // 8] = np.repeat(
            255 * (number % 256 >> np.arange(7, -1, -1) & 1), width // 8
        )[None, :, None]
        image[height // 8 :, number % width] = 255
        frame = av.VideoFrame.from_ndarray(image)
        frame.pts, frame.time_base = number, Fraction(1, RATE)
        packets += stream.encode(frame)
    return [*packets, *stream.encode(None)]


HOUR = 3600 * RATE
WRONG_STAMPS: dict[str, Stamps] = {
    "one frame hours away": Stamps("mp4", lambda i, t: 3 * HOUR * t * (i == 30)),
    "one of the last frames hours away": Stamps("mp4", lambda i, t: HOUR * t * (i == 55)),
    "one frame seconds away": Stamps("mp4", lambda i, t: 150 * t * (i == 50)),
    "two frames minutes away": Stamps("mp4", lambda i, t: 9000 * t * (i in (30, 31))),
    "the last frame hours away": Stamps("mp4", lambda i, t: HOUR * t * (i == FRAMES - 1)),
    "clock set forward": Stamps("mp4", lambda i, t: HOUR * t * (i >= 30)),
    "clock set forward in Matroska": Stamps("matroska", lambda i, t: HOUR * t * (i >= 30)),
    "clock set forward in a broadcast": Stamps("mpegts", lambda i, t: 600 * t * (i >= 30)),
    "clock set forward in FLV": Stamps("flv", lambda i, t: HOUR * t * (i >= 30)),
}


@pytest.mark.parametrize("kind", sorted(WRONG_STAMPS))
def test_wrong_stamps_change_nothing(kind: str) -> None:
    data = WRONG_STAMPS[kind].film()
    clip = both_ways(data)
    assert clip.info.frames == FRAMES
    assert clip.info.duration_s == pytest.approx(FRAMES / RATE, abs=0.1)
    times = [(2 * i + 1) * FRAMES // 16 / RATE for i in range(8)]
    assert clip.info.frame_times_s == pytest.approx(times, abs=0.05)
    assert bars(data) == [(2 * i + 1) * FRAMES // 16 for i in range(8)]


# --- which stream -------------------------------------------------------------------------------


@dataclass
class Track:
    """A video stream to write: `frames` of it, pictures numbered from `first`."""

    codec: str = "libx264"
    frames: int = FRAMES
    size: tuple[int, int] = (64, 48)
    first: int = 0
    disposition: int = 0


def tracks(container: str, *wanted: Track, path: Path | None = None) -> bytes:
    target = io.BytesIO()
    with av.open(path or target, "w", format=container) as output:
        streams: list[Any] = []
        for track in wanted:
            stream: Any = output.add_stream(track.codec, rate=RATE)
            stream.width, stream.height = track.size
            stream.pix_fmt = "yuvj420p" if track.codec == "mjpeg" else "yuv420p"
            stream.disposition = track.disposition
            streams.append(stream)
        for stream, track in zip(streams, wanted, strict=True):
            for packet in coded(stream, track.frames, track.first):
                output.mux(packet)
    return path.read_bytes() if path is not None else target.getvalue()


FILM = Track(size=(80, 64))
BESIDE: dict[str, tuple[str, list[Track]]] = {
    "a picture first": ("mp4", [Track("mjpeg", 1), FILM]),
    "a picture first, mov": ("mov", [Track("mjpeg", 1), FILM]),
    "a picture first, avi": ("avi", [Track("mjpeg", 1), FILM]),
    "a few thumbnails first": ("mp4", [Track("mjpeg", 5), FILM]),
    "a short preview first": ("matroska", [Track(frames=15), FILM]),
    "a stream that never comes": ("mpegts", [Track(frames=0), FILM]),
    "not the default one first": (
        "mp4",
        [Track(), Track(size=(80, 64), disposition=Disposition.default)],
    ),
}


@pytest.mark.parametrize("kind", sorted(BESIDE))
def test_film_is_taken_and_what_is_left_out_is_said(kind: str, tmp_path: Path) -> None:
    container, beside = BESIDE[kind]
    path = tmp_path / "clip" if container in ("mp4", "mov") else None
    clip = both_ways(tracks(container, *beside, path=path))
    assert (clip.info.width, clip.info.height, clip.info.frames) == (80, 64, FRAMES)
    assert clip.info.warnings == (VideoWarning.STREAMS_LEFT_OUT,)


def test_film_of_a_codec_that_is_not_accepted_is_named_rather_than_its_cover(
    encode_video: Encode,
) -> None:
    with pytest.raises(UnsupportedCodec, match=r"\(utvideo\)"):
        decode_clip(encode_video("utvideo", 5, container="avi"), SPEC)
    beside = tracks("avi", Track("mjpeg", 1), Track("utvideo"))
    with pytest.raises(UnsupportedCodec, match=r"\(utvideo\)"):
        decode_clip(io.BytesIO(beside), SPEC)


def test_programme_that_changes_is_read_on(encode_video: Encode) -> None:
    options = {"mpegts_start_pid": "256"}, {"mpegts_start_pid": "300"}
    first, second = (
        encode_video(
            "libx264", FRAMES, container="mpegts", options=X264, container_options=one
        ).getvalue()
        for one in options
    )
    clip = both_ways(first + second)
    assert clip.info.frames == 2 * FRAMES
    assert clip.info.duration_s == pytest.approx(2 * FRAMES / RATE, abs=0.1)
    assert clip.info.warnings == ()


def test_camera_that_is_switched_on_late_is_waited_for() -> None:
    target = io.BytesIO()
    with av.open(target, "w", format="flv") as output:
        sound: Any = output.add_stream("aac", rate=8000)
        film: Any = output.add_stream("flv", rate=RATE)
        film.width, film.height, film.pix_fmt = 64, 48, "yuv420p"
        for i in range(95 * 8):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1000), np.float32), "fltp", "mono")
            silence.sample_rate, silence.pts, silence.time_base = 8000, 1000 * i, Fraction(1, 8000)
            for packet in sound.encode(silence):
                output.mux(packet)
        for packet in coded(film, 10, first=95 * RATE):
            output.mux(packet)
    assert both_ways(target.getvalue()).info.frames == 10


def test_animated_picture_is_its_film_and_a_still_one_is_a_picture(encode_video: Encode) -> None:
    def avif(frames: int) -> bytes:
        options = {"preset": "12", "svtav1-params": "avif=0"}
        return encode_video(
            "libsvtav1", frames, container="avif", size=(64, 64), options=options
        ).getvalue()

    animated = both_ways(avif(10)).info
    assert animated.frames == 10
    assert animated.warnings == ()  # beside it lies a still of itself
    with pytest.raises(IsPicture):
        decode_clip(io.BytesIO(avif(1)), SPEC)


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"avif", b"isom"])
def test_pictures_are_told_by_their_boxes_not_by_their_brand(brand: bytes) -> None:
    data = b"\0\0\0\x14ftyp" + brand + b"\0\0\0\0mif1" + b"\0\0\0\x0cmeta\0\0\0\0" + bytes(50)
    with pytest.raises(IsPicture):
        decode_clip(io.BytesIO(data), SPEC)


def test_too_many_tracks_are_no_lack_of_memory() -> None:
    data = tracks("mp4", *[Track("mjpeg", 1, (16, 16)) for _ in range(66)])
    with pytest.raises(TooManyStreams, match="more than 64 streams"):
        decode_clip(io.BytesIO(data), SPEC)


# --- parameters, sizes, encryption, pieces ------------------------------------------------------


def test_parameters_that_change_between_packets_reach_the_decoder(encode_video: Encode) -> None:
    first = encode_video("libx264", FRAMES, container="flv", options=X264).getvalue()
    second = encode_video("libx264", FRAMES, container="flv", options=OTHER_X264).getvalue()
    clip = both_ways(first + second[13:])
    assert clip.info.frames == 2 * FRAMES
    assert bars(first + second[13:]) == [(2 * i + 1) * FRAMES // 8 % FRAMES for i in range(8)]


@pytest.mark.parametrize("other", [(128, 96), (96, 54), (48, 64)])
def test_pictures_that_change_size_all_get_that_of_the_first(
    other: tuple[int, int], encode_video: Encode
) -> None:
    parts = (
        encode_video("libx264", 30, container="h264", size=size, options=X264).getvalue()
        for size in ((64, 48), other)
    )
    data = b"".join(parts)
    clip = both_ways(data)
    assert clip.info.frames == 60
    assert (clip.info.width, clip.info.height) == (64, 48)
    uncropped = decode_uncropped(io.BytesIO(data), SPEC, rng=np.random.default_rng(0))
    assert uncropped.frames.shape == (1, 8, 48, 64, 3)


@pytest.mark.parametrize("movflags", ["faststart", "frag_keyframe+empty_moov"])
def test_encrypted_video_is_refused(movflags: str, encode_video: Encode, tmp_path: Path) -> None:
    encryption = {
        "encryption_scheme": "cenc-aes-ctr",
        "encryption_key": "76a6c65c5ea762046bd749a2e632ccbb",
        "encryption_kid": "a7e61c373e219033c21091fa607bf3b8",
        "movflags": movflags,
    }
    video = encode_video(
        "libx264", FRAMES, options=X264, container_options=encryption, path=tmp_path / "clip"
    )
    with pytest.raises(Encrypted) as refused:
        decode_clip(video, SPEC)
    assert refused.value.code == "unsupported_media"


def test_pieces_say_what_is_missing(encode_video: Encode) -> None:
    fragments = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    mp4 = encode_video("libx264", FRAMES, options=X264, container_options=fragments).getvalue()
    webm = encode_video("libvpx", FRAMES, container="webm").getvalue()
    for piece in (mp4[mp4.find(b"moof") - 4 :], webm[webm.find(b"\x1f\x43\xb6\x75") :]):
        with pytest.raises(MissingBeginning, match="joined into one file"):
            decode_clip(io.BytesIO(piece), SPEC)
    whole = encode_video("libx264", FRAMES, options=X264).getvalue()
    with pytest.raises(MissingIndex, match="moov"):
        decode_clip(io.BytesIO(whole[: whole.rfind(b"moov") - 4]), SPEC)
    with pytest.raises(NoPackets, match="joined with the segments"):
        decode_clip(io.BytesIO(mp4[: mp4.find(b"moof") - 4]), SPEC)


def test_an_upload_that_broke_off_is_said(encode_video: Encode, tmp_path: Path) -> None:
    index_first, file = {"movflags": "faststart"}, tmp_path / "clip"
    encode_video("libx264", FRAMES, options=X264, container_options=index_first, path=file)
    mp4 = file.read_bytes()
    assert both_ways(mp4).info.warnings == ()
    cut_off = both_ways(mp4[: len(mp4) * 4 // 5])
    assert 0 < cut_off.info.frames < FRAMES
    assert cut_off.info.warnings == (VideoWarning.CUT_OFF,)
    assert both_ways(mp4 + b"anything after it").info.warnings == ()


@pytest.mark.parametrize(
    ("transfer", "warnings"),
    [("smpte2084", (VideoWarning.HDR,)), ("arib-std-b67", (VideoWarning.HDR,)), ("bt709", ())],
)
def test_hdr_is_said(
    transfer: str, warnings: tuple[VideoWarning, ...], encode_video: Encode
) -> None:
    options = {"preset": "veryfast", "x264-params": f"transfer={transfer}"}
    assert both_ways(encode_video("libx264", 20, options=options).getvalue()).info.warnings == (
        warnings
    )


@pytest.mark.parametrize(
    ("codec", "container", "pixels", "size"),
    [
        ("png", "mov", "rgb24", (64, 48)),
        ("v210", "mov", "yuv422p10le", (64, 48)),
        ("cfhd", "mov", "yuv422p10le", (64, 48)),
        ("dvvideo", "avi", "yuv420p", (720, 576)),
    ],
)
def test_codecs_of_cameras_and_editors_are_taken(
    codec: str, container: str, pixels: str, size: tuple[int, int], encode_video: Encode
) -> None:
    video = encode_video(codec, 10, container=container, pixels=pixels, size=size, rate=25)
    clip = both_ways(video.getvalue())
    assert (clip.info.frames, clip.info.codec) == (10, codec)


def test_bare_motion_jpeg_is_a_film_and_one_jpeg_a_picture(encode_video: Encode) -> None:
    def jpegs(count: int) -> bytes:
        return encode_video("mjpeg", count, container="mjpeg", pixels="yuvj420p").getvalue()

    assert both_ways(jpegs(30)).info.frames == 30
    assert bars(jpegs(30)) == [(2 * i + 1) * 30 // 16 for i in range(8)]
    for few in (1, 2):
        with pytest.raises(IsPicture):
            decode_clip(io.BytesIO(jpegs(few)), SPEC)


def test_dolby_vision_is_said(encode_video: Encode) -> None:
    options = {"preset": "ultrafast", "x265-params": "log-level=none"}
    plain = encode_video("libx265", 20, options=options).getvalue()
    assert both_ways(plain).info.warnings == ()
    marked = plain.replace(b"hev1", b"dvhe")
    assert marked != plain
    assert both_ways(marked).info.warnings == (VideoWarning.DOLBY_VISION,)
