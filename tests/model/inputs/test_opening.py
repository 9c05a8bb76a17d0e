"""Opening VP9 decodes nothing, and what its headers tell is what decoding tells."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from model.inputs import InputSpec, VideoLimits, decode_clip
from model.inputs.video.container import open_video
from tests.conftest import missing

SPEC = InputSpec(num_frames=4, image_size=16, resize_short_side=18)


def film(path: Path, pixels: str) -> Path:
    """Forty pictures in two groups."""
    if shutil.which("ffmpeg") is None:
        missing("ffmpeg")
    source = "testsrc2=size=64x48:rate=20,noise=alls=12:allf=t"
    command = ["ffmpeg", "-loglevel", "error", "-f", "lavfi", "-i", source, "-t", "2", "-g", "20"]
    fast = ["-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8"]
    subprocess.run([*command, *fast, "-pix_fmt", pixels, str(path)], check=True)
    return path


@pytest.mark.parametrize("container", ["webm", "mp4"])
@pytest.mark.parametrize(("pixels", "depth"), [("yuv420p", 8), ("yuv420p10le", 10)])
def test_vp9_is_opened_by_its_headers(
    tmp_path: Path, container: str, pixels: str, depth: int
) -> None:
    source = io.BytesIO(film(tmp_path / f"film.{container}", pixels).read_bytes())
    with open_video(source, VideoLimits()) as video:
        assert video.context.format is None  # which the first picture tells
        by_headers = (video.depth, video.codec, video.clock, video.pixel_aspect, video.warnings)
    with open_video(source, VideoLimits(), probe=True) as video:
        assert video.context.format.name == pixels
        by_pictures = (video.depth, video.codec, video.clock, video.pixel_aspect, video.warnings)
    assert by_headers == by_pictures
    assert by_headers[0] == depth
    planned, full = (decode_clip(source, SPEC, plan=plan) for plan in ("auto", "full"))
    assert np.array_equal(planned.frames, full.frames)
    assert planned.info == full.info
