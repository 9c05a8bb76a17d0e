"""Windows of a video, decoded in one pass: the frames are those of `decode_clip`."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from model.inputs import FrameRule, InputSpec, decode_clip
from model.inputs.clip import VideoWarning
from model.inputs.errors import RangeError, TooLong, TooManyWindows, Undecodable, Unsteady
from model.inputs.video import frames as decoding
from model.inputs.video.window_pass import Opened, Window, WindowPass
from model.inputs.video.window_reader import read_windows
from model.inputs.windows import Cut
from tests.model.inputs.conftest import picture

SPEC = InputSpec(num_frames=4, image_size=16, resize_short_side=18)
Video = Callable[..., io.BytesIO]


def encode_at(
    milliseconds: Sequence[int],
    container: str = "matroska",
    codec: str = "libx264",
    size: tuple[int, int] = (64, 48),
    params: str = "",
    **options: str,
) -> io.BytesIO:
    """A video whose frames are shown at these times."""
    target = io.BytesIO()
    if params:
        options["x264-params"] = params
    with av.open(target, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.thread_count = 1
        for number, at in enumerate(milliseconds):
            frame = av.VideoFrame.from_ndarray(picture(number, *size))
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    target.seek(0)
    return target


def uneven(count: int, seed: int = 0) -> list[int]:
    """Times of frames between 10 and 120 milliseconds apart."""
    steps = np.random.default_rng(seed).integers(10, 120, count)
    return [0, *np.cumsum(steps).tolist()][:count]


def read(video: io.BytesIO, cut: Cut, **options: Any) -> tuple[Opened, list[Window]]:
    opened, *windows = read_windows(video, SPEC, cut, **options)
    assert isinstance(opened, Opened)
    return opened, [window for window in windows if isinstance(window, Window)]


def check_like_clips(video: io.BytesIO, windows: Sequence[Window], rule: FrameRule) -> None:
    for window in windows:
        clip = decode_clip(video, SPEC, start=window.start_s, end=window.end_s, frame_rule=rule)
        assert clip.info.frame_times_s == window.times_s
        assert (clip.frames[0] == window.frames).all()


VIDEOS = {
    "uneven": lambda: encode_at(uneven(120), bf="2", g="12"),
    "uneven mp4": lambda: encode_at(uneven(120, 1), "mp4", bf="0", g="250"),
    "one group": lambda: encode_at(uneven(90, 2), bf="3", g="999"),
    "open groups": lambda: encode_at(uneven(90, 3), params="open-gop=1:keyint=15"),
    "without roles": lambda: encode_at(range(0, 4000, 40), codec="ffv1"),
    "interlaced": lambda: encode_at(range(0, 4000, 40), params="interlaced=1"),
    "order of decoding alone": lambda: encode_at(range(0, 4000, 40), "avi", "mpeg4", bf="2"),
}


@pytest.fixture(scope="module", params=VIDEOS)
def video(request: pytest.FixtureRequest) -> io.BytesIO:
    return VIDEOS[request.param]()


@pytest.mark.parametrize("cut", [Cut(1, 0.25, 99), Cut(0.7, 0.7, 99), Cut(0.3, 1.1, 99)])
@pytest.mark.parametrize("rule", list(FrameRule))
@pytest.mark.parametrize("threads", [1, 2])
def test_a_window_has_the_frames_of_a_clip_with_its_start_and_end(
    video: io.BytesIO, cut: Cut, rule: FrameRule, threads: int
) -> None:
    opened, windows = read(video, cut, frame_rule=rule, threads=threads)
    assert opened.windows == len(windows) > 1
    assert opened.info.frame_rule is rule
    whole = decode_clip(video, SPEC, frame_rule=rule).info
    facts = {"frame_times_s": (), "warnings": opened.info.warnings}
    assert opened.info == whole.model_copy(update=facts)
    check_like_clips(video, windows, rule)


def test_a_part_of_a_video_is_cut_alone(video: io.BytesIO) -> None:
    _, windows = read(video, Cut(0.5, 0.25, 99), start=0.9, end=2.1)
    assert (windows[0].start_s, windows[-1].end_s) == (0.9, 2.1)
    check_like_clips(video, windows, FrameRule.EXACT)
    with pytest.raises(RangeError):
        read(video, Cut(0.5, 0.25, 99), start=500.0)


class Decoded:
    """Which packets go to decoders, and how many finished frames are held at most."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.packets: Counter[int] = Counter()
        self.most_held = 0
        strictly, leniently = decoding._decode_strictly, decoding._decode_leniently
        take = WindowPass.take

        def counted(coded: Iterator[Any]) -> Iterator[Any]:
            for packet in coded:
                self.packets[packet.pts] += 1
                yield packet

        def taken(windows: Any, number: int, seen: Any) -> Iterator[Any]:
            yield from take(windows, number, seen)
            self.most_held = max(self.most_held, len(windows._finished))

        monkeypatch.setattr(
            decoding, "_decode_strictly", lambda c, coded, n: strictly(c, counted(coded), n)
        )
        monkeypatch.setattr(
            decoding, "_decode_leniently", lambda c, coded: leniently(c, counted(coded))
        )
        monkeypatch.setattr(WindowPass, "take", taken)


@pytest.mark.parametrize("name", ["uneven", "one group", "without roles", "interlaced"])
def test_no_packet_is_decoded_twice_and_few_frames_are_held(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = Decoded(monkeypatch)
    _, windows = read(VIDEOS[name](), Cut(0.8, 0.2, 99))
    assert max(decoded.packets.values()) == 1
    assert len(windows) > 10
    assert decoded.most_held <= 5 * SPEC.num_frames  # of windows that overlap at a moment


def test_what_lies_between_windows_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = Decoded(monkeypatch)
    read(encode_at(range(0, 20_000, 40), g="10"), Cut(0.4, 5, 99))
    assert len(decoded.packets) < 100  # of 500


def test_windows_are_given_as_soon_as_their_frames_are_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded = Decoded(monkeypatch)
    reading = read_windows(encode_at(range(0, 8000, 40), g="25"), SPEC, Cut(1, 1, 99))
    assert isinstance(next(reading), Opened)
    next(reading)
    assert decoded.packets.total() < 50  # of 200
    reading.close()
    assert decoded.packets.total() < 50


def test_a_window_in_which_nothing_new_is_shown_is_left_out() -> None:
    video = encode_at([0, 40, 80, 120, 5000, 5040, 5080])
    opened, windows = read(video, Cut(0.5, 0.5, 99))
    assert VideoWarning.EMPTY_WINDOWS in opened.info.warnings
    assert opened.windows == len(windows) == 3
    check_like_clips(video, windows, FrameRule.EXACT)


def test_a_video_shorter_than_a_window_is_the_clip() -> None:
    video = encode_at(uneven(20))
    opened, (window,) = read(video, Cut(60, 1, 99))
    assert opened.windows == 1
    assert (window.frames == decode_clip(video, SPEC).frames[0]).all()


def test_frames_have_the_size_at_which_their_window_begins(encode_video: Video) -> None:
    joined = b"".join(
        encode_video("mpeg2video", 60, container="mpegts", size=size, options={"g": "10"}).read()
        for size in ((64, 48), (48, 64), (80, 48))
    )
    video = io.BytesIO(joined)
    _, windows = read(video, Cut(1.5, 0.5, 99))
    check_like_clips(video, windows, FrameRule.EXACT)


def test_a_video_that_starts_with_pictures_nobody_can_decode(encode_video: Video) -> None:
    """Cut within a group, as recordings are: the packets announce more than is shown."""
    whole = encode_video("mpeg2video", 90, container="mpegts", options={"g": "15", "bf": "2"})
    data = whole.read()
    video = io.BytesIO(data[188 * (len(data) // 188 // 5) :])
    _, windows = read(video, Cut(0.5, 0.25, 99))
    check_like_clips(video, windows, FrameRule.EXACT)


def broken(video: io.BytesIO, share: float) -> io.BytesIO:
    """Overwrite some bytes in the middle."""
    data = bytearray(video.read())
    at = int(len(data) * share)
    data[at : at + 200] = bytes(200)
    return io.BytesIO(data)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_damaged_video_gives_the_frames_of_clips_or_is_refused(
    share: float, threads: int
) -> None:
    video = broken(encode_at(uneven(120), g="12"), share)
    try:
        _, windows = read(video, Cut(1, 0.5, 99), threads=threads)
    except (Unsteady, Undecodable):
        return
    for window in windows:
        assert window.frames.any()


def test_a_video_with_too_many_windows_or_seconds_is_refused() -> None:
    video = encode_at(uneven(60))
    with pytest.raises(TooManyWindows, match="stride_s of"):
        read(video, Cut(0.5, 0.01, 20))
    day = encode_at(range(0, 86_400_000, 50_000), size=(16, 16))
    with pytest.raises(TooLong):
        read(day, Cut(0.5, 0.5, 99))
