"""Both frame rules against a plain decode of the whole file by FFmpeg alone, pixel by pixel, over
group structures drawn at random: open groups, pyramids, edit lists that hide the first pictures,
and files whose packets carry no times.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from model.inputs import FrameRule, InputSpec, decode_clip
from model.inputs.pixels.crop import crop_frame
from model.inputs.sampling import sample_segments

SPEC = InputSpec(num_frames=8, image_size=32, resize_short_side=32)
SEEDS = range(16)
RATE = 30
TIMELESS = ("h264", "hevc", "avi")


def film(rng: random.Random) -> tuple[bytes, str]:
    """Draw a film and its container."""
    codec = rng.choice(["libx264", "libx264", "libx265"])
    own = "h264" if codec == "libx264" else "hevc"
    containers = ["mp4", "mp4", "matroska", own]
    container = rng.choice([*containers, "avi"] if codec == "libx264" else containers)
    options = f"keyint={rng.choice([5, 12, 30, 250])}:bframes={rng.randrange(5)}"
    options += f":open-gop={rng.randrange(2)}:scenecut=0:min-keyint={rng.choice([1, 5])}"
    if codec == "libx264":
        options += f":b-pyramid={rng.choice(['none', 'normal'])}:ref={rng.randint(1, 5)}"
    named = {"preset": "ultrafast", f"{codec[3:]}-params": f"log-level=none:{options}"}
    # Pictures before the time 0 are hidden by an edit list.
    hidden = rng.choice([0, 0, 3, 9]) if container == "mp4" else 0
    return encoded(rng, codec, named, container, hidden), container


def encoded(
    rng: random.Random, codec: str, options: dict[str, str], container: str, hidden: int
) -> bytes:
    target = io.BytesIO()
    moving = np.random.default_rng(rng.randrange(1 << 30)).integers(0, 255, (48, 64, 3), np.uint8)
    steady, now = rng.random() < 0.5 or container in TIMELESS, -hidden
    with av.open(target, "w", format=container) as output:
        stream: Any = output.add_stream(codec, rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(rng.randint(60, 140)):
            frame = av.VideoFrame.from_ndarray(np.roll(moving, number, axis=1))
            frame.pts, frame.time_base = now, Fraction(1, RATE)
            now += 1 if steady else rng.randint(1, 4)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return target.getvalue()


def plain_decode(data: bytes) -> tuple[list[NDArray[np.uint8]], list[float] | None]:
    """Every picture as the network would see it, and its seconds after the first if it has any."""
    pictures, times = [], []
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            pictures.append(
                crop_frame(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), SPEC)[0]
            )
            times.append(frame.time)
    known = [time for time in times if time is not None]
    if len(known) < len(times) or known != sorted(known):
        return pictures, None
    return pictures, [time - known[0] for time in known]


def number_at(second: float, times: Sequence[float] | None, frames: int, duration: float) -> int:
    """The number of the picture that is shown at a second."""
    steps = times or [i * duration / frames for i in range(frames)]
    return int(np.abs(np.array(steps) - second).argmin())


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("seed", SEEDS)
def test_frames_of_both_rules_are_those_of_a_plain_decode(seed: int, threads: int) -> None:
    data, container = film(random.Random(seed))
    pictures, times = plain_decode(data)
    if container in TIMELESS:
        times = None
    for rule in FrameRule:
        for views in (1, 3):
            clip = decode_clip(
                io.BytesIO(data), SPEC, views=views, frame_rule=rule, threads=threads
            )
            assert clip.info.frames == len(pictures)
            assert clip.info.duration_s is not None
            frames = clip.frames.reshape(-1, *clip.frames.shape[2:])
            segments = sample_segments(len(pictures), 8, views=views, rule=rule)
            for frame, second, segment in zip(
                frames, clip.info.frame_times_s, segments, strict=True
            ):
                number = number_at(second, times, len(pictures), clip.info.duration_s)
                assert segment.first <= number < segment.end
                assert np.array_equal(frame, pictures[number])
