"""`decode_clip`: what it returns, its limits, and what it says when it refuses."""

from __future__ import annotations

import gzip
import io
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from model.inputs import (
    Clip,
    InputSpec,
    RangeError,
    TooLarge,
    TooShort,
    VideoError,
    VideoInfo,
    VideoLimits,
    crop_frame,
    decode_clip,
    decode_uncropped,
    sample_indices,
)
from model.inputs.errors import TooLong
from model.inputs.video.source import FileView, SharedFile

FRAMES = 60
SPEC = InputSpec(num_frames=4, image_size=32, resize_short_side=40)


@pytest.fixture(scope="module")
def video(encode_video: Callable[..., io.BytesIO]) -> io.BytesIO:
    """Two seconds of 64x48 pictures that show their number."""
    return encode_video("libx264", FRAMES, options={"preset": "veryfast", "g": "20"})


def bar(frame: np.ndarray) -> int:
    """The number in the top row of an uncropped picture."""
    row = frame[frame.shape[0] // 16].mean(axis=-1)
    cells = (np.arange(8) + 0.5) * frame.shape[1] / 8
    return int("".join("1" if row[int(c)] > 127 else "0" for c in cells), 2)


def test_clip_has_the_sampled_frames_times_and_stream(video: io.BytesIO) -> None:
    clip = decode_clip(video, SPEC)
    assert clip.frames.shape == (1, 4, 32, 32, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.frames.flags.c_contiguous
    times = clip.info.frame_times_s
    assert times == pytest.approx([7 / 30, 22 / 30, 37 / 30, 52 / 30])
    assert clip.info == VideoInfo(
        duration_s=2.0,
        fps=30.0,
        width=64,
        height=48,
        codec="h264",
        frames=FRAMES,
        frame_times_s=times,
    )


def test_uncropped_frames_are_the_ones_that_were_asked_for(video: io.BytesIO) -> None:
    clip = decode_uncropped(video, SPEC, sampling="test")
    assert clip.frames.shape == (1, 4, 40, 53, 3)
    assert [bar(f) for f in clip.frames[0]] == sample_indices(FRAMES, 4)[0].tolist()


def test_views_and_crops_are_crop_major(video: io.BytesIO) -> None:
    everything = InputSpec(num_frames=FRAMES, image_size=48, resize_short_side=48)
    pictures = decode_uncropped(video, everything, sampling="test").frames[0]
    clip = decode_clip(video, SPEC, views=2, crops=3)
    numbers = sample_indices(FRAMES, 4, views=2)
    assert clip.frames.shape == (6, 4, 32, 32, 3)
    assert clip.info.frame_times_s == pytest.approx(numbers.ravel() / 30)
    for view in range(2):
        crops = np.stack([crop_frame(pictures[n], SPEC, crops=3) for n in numbers[view]], axis=1)
        for crop in range(3):
            assert np.array_equal(clip.frames[crop * 2 + view], crops[crop])


def test_range_is_sampled_like_a_clip_of_its_own(video: io.BytesIO) -> None:
    clip = decode_clip(video, SPEC, start=1.0, end=1.5)
    assert clip.info.frames == 16
    numbers = 30 + sample_indices(16, 4)[0]
    assert clip.info.frame_times_s == pytest.approx(numbers / 30)


def test_training_draws_with_the_generator_given(video: io.BytesIO) -> None:
    def draw(seed: int) -> Clip:
        return decode_uncropped(video, SPEC, rng=np.random.default_rng(seed))

    assert draw(1).info.frame_times_s == draw(1).info.frame_times_s
    assert len({draw(seed).info.frame_times_s for seed in range(5)}) > 1
    numbers = np.rint(np.array(draw(3).info.frame_times_s) * 30).astype(int)
    assert (numbers // 15).tolist() == [0, 1, 2, 3]
    assert [bar(f) for f in draw(3).frames[0]] == numbers.tolist()


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_clips_with_fewer_frames_than_wanted_repeat_some(
    frames: int, encode_video: Callable[..., io.BytesIO]
) -> None:
    clip = decode_uncropped(encode_video("libx264", frames), SPEC, sampling="test")
    assert [bar(f) for f in clip.frames[0]] == sample_indices(frames, 4)[0].tolist()


def test_threads_do_not_change_the_frames(video: io.BytesIO) -> None:
    assert np.array_equal(
        decode_clip(video, SPEC).frames, decode_clip(video, SPEC, threads=2).frames
    )


@pytest.mark.parametrize("kind", ["plain", "unbuffered", "gzip", "temporary"])
def test_any_seekable_binary_file_will_do(kind: str, video: io.BytesIO, tmp_path: Path) -> None:
    path = tmp_path / "clip"
    path.write_bytes(gzip.compress(video.getvalue()) if kind == "gzip" else video.getvalue())
    with tempfile.NamedTemporaryFile() as temporary:
        temporary.write(video.getvalue())
        openers: dict[str, Callable[[], Any]] = {
            "plain": lambda: path.open("rb"),
            "unbuffered": lambda: path.open("rb", buffering=0),
            "gzip": partial(gzip.open, path),
            "temporary": lambda: temporary,
        }
        with openers[kind]() as source:
            assert decode_clip(source, SPEC).info.frames == FRAMES


def test_source_is_read_from_its_beginning_wherever_it_stands(video: io.BytesIO) -> None:
    video.seek(100)
    assert decode_clip(video, SPEC).info.frames == FRAMES


def test_name_of_the_source_is_out_of_reach(video: io.BytesIO) -> None:
    video.name = "/etc/canary_%03d.png"
    assert not hasattr(FileView(SharedFile(video)), "name")
    assert decode_clip(video, SPEC).info.frames == FRAMES


@pytest.mark.parametrize(
    ("limits", "code", "named"),
    [
        ({"max_pixels": 64 * 48 - 1}, "resolution_too_large", "64x48"),
        ({"max_side": 63}, "resolution_too_large", "63 a side"),
        ({"max_duration_s": 1.5}, "video_too_long", "1.5 seconds"),
        ({"max_frames": FRAMES - 1}, "too_many_frames", "59 frames"),
    ],
)
@pytest.mark.parametrize("plan", ["auto", "full"])
def test_limits_are_named(
    limits: dict[str, Any], code: str, named: str, plan: Any, video: io.BytesIO
) -> None:
    with pytest.raises(TooLarge) as refused:
        decode_clip(video, SPEC, limits=VideoLimits(**limits), plan=plan)
    assert refused.value.code == code
    assert named in refused.value.detail


def test_limits_that_just_hold_pass(video: io.BytesIO) -> None:
    limits = VideoLimits(max_pixels=64 * 48, max_side=64, max_duration_s=2.0, max_frames=FRAMES)
    assert decode_clip(video, SPEC, limits=limits).info.frames == FRAMES


def test_limits_are_positive_and_known() -> None:
    with pytest.raises(ValidationError, match="max_side"):
        VideoLimits(max_side=0)
    with pytest.raises(ValidationError, match="max_colour"):
        VideoLimits.model_validate({"max_colour": 3})


@pytest.mark.parametrize(
    ("asked", "kind", "code"),
    [
        ({"start": 2.5}, RangeError, "start_past_end"),
        ({"start": 1.0, "end": 0.5}, RangeError, "start_past_end"),
        ({"start": 0.501, "end": 0.502}, TooShort, "video_too_short"),
    ],
)
def test_impossible_ranges_are_refused(
    asked: dict[str, Any], kind: type[VideoError], code: str, video: io.BytesIO
) -> None:
    with pytest.raises(kind) as refused:
        decode_clip(video, SPEC, **asked)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        ({"crops": 2}, "crops must be 1 or 3"),
        ({"views": 0}, "views must be at least 1"),
        ({"sampling": "train"}, "needs rng"),
        ({"rng": np.random.default_rng(0)}, "takes none"),
    ],
)
def test_callers_mistakes_are_value_errors(
    mistake: dict[str, Any], message: str, video: io.BytesIO
) -> None:
    with pytest.raises(ValueError, match=message):
        decode_clip(video, SPEC, **mistake)


def test_errors_tell_nothing_about_the_server(tmp_path: Path) -> None:
    file = tmp_path / "secret-name.mp4"
    file.write_bytes(b"\0\0\0\x20ftypisom" + b"\0" * 100)
    with file.open("rb") as source, pytest.raises(VideoError) as refused:
        decode_clip(source, SPEC)
    assert refused.value.code == "video_undecodable"
    assert "secret" not in refused.value.detail
    assert "Errno" not in refused.value.detail


def test_errors_survive_pickling() -> None:
    error = TooLong(max_duration_s=90.5)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.code) == (TooLong, "video_too_long")
    assert again.detail == "the video is longer than 90.5 seconds; cut it"


def test_stretched_pixels_can_be_taken_as_stored(shared_dir: Path) -> None:
    stored = SPEC.model_copy(update={"pixel_aspect": "stored"})
    with (shared_dir / "corpus" / "v_sar_4_3.mp4").open("rb") as source:
        shown = decode_uncropped(source, SPEC, sampling="test")
        raw = decode_uncropped(source, stored, sampling="test")
    assert shown.frames.shape[2:4] == (40, 53)
    assert raw.frames.shape[2:4] == (40, 40)
    assert (raw.info.width, raw.info.height) == (128, 96)


def test_clip_checks_its_shape() -> None:
    info = VideoInfo(
        duration_s=1.0, fps=30.0, width=64, height=48, codec="h264", frames=30, frame_times_s=()
    )
    with pytest.raises(ValueError, match="uint8"):
        Clip(np.zeros((1, 8, 4, 4, 3), dtype=np.float32), info)


def test_allocation_limit_bounds_what_libav_takes() -> None:
    program = """
import av, numpy
from model.inputs import limit_libav_allocations
picture = lambda: av.VideoFrame(2048, 2048, "rgba")
picture()
limit_libav_allocations(1 << 20)
try:
    picture()
except MemoryError:
    raise SystemExit(0)
raise SystemExit("16 MiB were allocated")
"""
    root = Path(__file__).resolve().parents[3]
    subprocess.run([sys.executable, "-c", program], check=True, cwd=root)


def test_allocation_limit_must_be_positive() -> None:
    from model.inputs import limit_libav_allocations

    with pytest.raises(ValueError, match="must be positive"):
        limit_libav_allocations(0)
