"""The largest picture and the memory of one decode: said together, and enough when followed."""

from __future__ import annotations

import asyncio
import io
import re
from pathlib import Path
from typing import Any

import av
import pytest
from structlog.testing import capture_logs

from benchmarks.decode_memory import FORMS, film, fits
from model.inputs import Clip, InputSpec
from model.inputs.limits import VideoLimits
from service.decode import DecodePool
from service.decode.options import PoolOptions
from service.lifecycle.decode_memory import memory_for_largest_picture, warn_of_too_little_memory
from service.settings import MIB, Settings
from tests.service.conftest import fake_runtime, running

SPEC = InputSpec(num_frames=2, image_size=32, resize_short_side=32)
EIGHT_K = 7680 * 4320


def warnings(settings: Settings) -> list[str]:
    with capture_logs() as logs:
        warn_of_too_little_memory(settings)
    assert all(line["log_level"] == "warning" for line in logs)
    return [line["event"] for line in logs]


def test_the_defaults_belong_together() -> None:
    assert warnings(Settings()) == []


@pytest.mark.parametrize(
    "settings",
    [{"max_pixels": 5312 * 2988}, {"max_pixels": EIGHT_K}, {"decode_memory_bytes": 128 * MIB}],
)
def test_either_of_the_two_values_that_the_line_names_is_enough(settings: dict[str, Any]) -> None:
    (line,) = warnings(Settings(**settings))
    memory, pixels = re.findall(r"(?:decode_memory_bytes|max_pixels) to (\d+)", line)
    assert warnings(Settings(**{**settings, "decode_memory_bytes": memory})) == []
    assert warnings(Settings(**{**settings, "max_pixels": pixels})) == []


def test_a_side_bounds_the_pixels_too() -> None:
    assert warnings(Settings(max_pixels=10**9, max_side=1000)) == []


def test_the_descriptions_name_each_other() -> None:
    fields = Settings.model_fields
    assert "decode_memory_bytes" in (fields["max_pixels"].description or "")
    assert "max_pixels" in (fields["decode_memory_bytes"].description or "")


def test_the_line_is_said_once_at_the_start() -> None:
    with capture_logs() as logs, running(fake_runtime(), max_pixels=EIGHT_K) as server:
        assert server.client.get("/healthz").status_code == 200
    assert sum("decode_memory_bytes" in line["event"] for line in logs) == 1


def test_pictures_decode_when_the_line_is_followed(tmp_path: Path) -> None:
    (tmp_path / "8k.mp4").write_bytes(two_pictures(7680, 4320))
    wanted = Settings(max_pixels=EIGHT_K)
    settings = Settings(max_pixels=EIGHT_K, decode_memory_bytes=memory_for_largest_picture(wanted))
    options = settings.pool_options.model_copy(update={"max_decode_s": 300.0})
    clip = asyncio.run(decoded(tmp_path / "8k.mp4", settings.video_limits, options))
    assert clip.frames.shape[-3:] == (32, 32, 3)


def test_the_largest_pictures_that_are_accepted_decode_with_the_defaults(tmp_path: Path) -> None:
    """As many and as deep ones as H.264 keeps: sixteen of 4:4:4 at ten bits, and eight views."""
    options = {"preset": "ultrafast", "x264-params": "ref=16:bframes=3:b-pyramid=normal:keyint=99"}
    clip = pictures(4096, 2304, 20, "yuv444p10le", options)
    (tmp_path / "4k.mp4").write_bytes(clip)
    settings = Settings()
    patient = settings.pool_options.model_copy(update={"max_decode_s": 300.0})
    asyncio.run(decoded(tmp_path / "4k.mp4", settings.video_limits, patient, views=8))


@pytest.mark.long
@pytest.mark.parametrize("views", [1, 8])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_the_largest_size_decodes_with_the_default(form: str, views: int) -> None:
    assert asyncio.run(fits(film(form), views, PoolOptions().memory_bytes))


async def decoded(path: Path, limits: VideoLimits, options: PoolOptions, views: int = 1) -> Clip:
    pool = DecodePool(1, SPEC, limits, options)
    await pool.start()
    try:
        return await pool.decode(path, views=views)
    finally:
        await pool.stop()


def two_pictures(width: int, height: int) -> bytes:
    """Grey H.264 of the given size."""
    return pictures(width, height, 2, "yuv420p", {"preset": "ultrafast"})


def pictures(width: int, height: int, count: int, pixels: str, options: dict[str, str]) -> bytes:
    """Grey H.264 in the given form."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        frame = av.VideoFrame(width, height, pixels)
        for number in range(count):
            for plane in frame.planes:
                plane.update(bytes([0, 2]) * (plane.buffer_size // 2))
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()
