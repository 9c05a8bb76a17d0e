"""Odd-but-valid files and real clips: our frames are those that ffmpeg's command line extracts,
turned upright and stretched to square pixels.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.inputs import Clip, InputSpec, VideoError, crop_frame, decode_clip, decode_uncropped

T = 8
LEAST_PSNR_DB = 35.0
SCALE = "scale=round(iw*if(sar\\,sar\\,1)):ih"
CHANGING = {"v_midstream_res.h264", "v_midstream_res.ts"}

pytestmark = pytest.mark.skipif(
    shutil.which("ffmpeg") is None, reason="ffmpeg is not installed: apt-get install ffmpeg"
)


def spec_for(side: int) -> InputSpec:
    """With the short side as it is, decoding resizes nothing."""
    return InputSpec(num_frames=T, image_size=side, resize_short_side=side)


def decode(path: Path) -> Clip:
    with path.open("rb") as source:
        info = decode_uncropped(source, spec_for(8), sampling="test").info
        spec = spec_for(min(info.width, info.height))
        return decode_uncropped(source, spec, sampling="test")


def ffmpeg(path: Path, *options: str) -> bytes:
    command = ["ffmpeg", "-v", "quiet", "-i", str(path), "-map", "0:V:0", "-vsync", "passthrough"]
    command += [*options, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout


def indices(frames: int) -> list[int]:
    return [(2 * i + 1) * frames // (2 * T) for i in range(T)]


def psnr(ours: np.ndarray, theirs: np.ndarray) -> float:
    error = np.mean((ours.astype(np.float64) - theirs.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def compare(path: Path) -> list[float]:
    clip = decode(path)
    raw = np.frombuffer(ffmpeg(path, "-vf", SCALE), np.uint8)
    theirs = raw.reshape(-1, clip.info.height, clip.info.width, 3)
    assert len(theirs) == clip.info.frames
    pairs = zip(clip.frames[0], indices(clip.info.frames), strict=True)
    return [psnr(frame, theirs[i]) for frame, i in pairs]


def test_valid_files_match_ffmpeg(corpus: list[Any]) -> None:
    compared, worst = 0, {}
    for file in corpus:
        if file.category != "valid" or file.name in CHANGING:
            continue
        try:
            worst[file.name] = min(compare(file.path))
        except VideoError:
            assert file.expect["outcome"] != "accept"
            continue
        compared += 1
    assert compared >= 60
    assert {n: p for n, p in worst.items() if p < LEAST_PSNR_DB} == {}


@pytest.mark.parametrize("name", ["arm_wrestling", "flipping_a_pancake", "apply_eye_makeup"])
def test_real_clips_match_ffmpeg(videos: dict[str, Path], name: str) -> None:
    assert min(compare(videos[name])) >= LEAST_PSNR_DB


@pytest.mark.parametrize("name", sorted(CHANGING))
def test_pictures_that_change_size_match_ffmpeg(shared_dir: Path, name: str) -> None:
    path = shared_dir / "corpus" / name
    spec = spec_for(48)
    with path.open("rb") as source:
        clip = decode_clip(source, spec, crops=3)
    raw = np.frombuffer(ffmpeg(path, "-autoscale", "0"), np.uint8)
    theirs: list[np.ndarray] = []
    for width, height in ((128, 96), (192, 144), (64, 48)):
        for _ in range(15):
            picture, raw = np.split(raw, [width * height * 3])
            theirs.append(picture.reshape(height, width, 3))
    assert clip.info.frames == len(theirs) == 45
    for number, i in enumerate(indices(45)):
        expected = crop_frame(theirs[i], spec, crops=3)
        assert min(map(psnr, clip.frames[:, number], expected)) >= LEAST_PSNR_DB
