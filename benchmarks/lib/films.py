"""Clips to decode, made with ffmpeg from a moving test picture with noise, so that they take bits
as a camera's do. Each is made once and kept in `build/films`.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

FILMS = Path(__file__).resolve().parents[2] / "build" / "films"

X264 = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "26", "-sc_threshold", "0")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-crf", "28")
X265_PARAMS = "log-level=none:scenecut=0:bframes=3:b-adapt=0"
VP9 = (
    "-c:v",
    "libvpx-vp9",
    "-deadline",
    "realtime",
    "-cpu-used",
    "8",
    "-row-mt",
    "1",
    "-crf",
    "36",
)
AV1 = ("-c:v", "libsvtav1", "-preset", "12", "-crf", "40")


@dataclass(frozen=True)
class Encoder:
    """How ffmpeg is asked for a codec, and the container that it usually comes in."""

    options: tuple[str, ...]
    container: str = "mp4"
    pixels: str = "yuv420p"


ENCODERS = {
    "H.264": Encoder(X264),
    "HEVC": Encoder((*X265, "-x265-params", X265_PARAMS)),
    "HEVC 10 bit": Encoder((*X265, "-x265-params", X265_PARAMS), pixels="yuv420p10le"),
    "VP9": Encoder((*VP9, "-b:v", "0"), container="webm"),
    "AV1": Encoder(AV1),
    "AV1, grain": Encoder((*AV1, "-svtav1-params", "film-grain=12")),
    "MPEG-4": Encoder(("-c:v", "mpeg4", "-bf", "1", "-q:v", "6"), container="avi"),
    "MPEG-2": Encoder(("-c:v", "mpeg2video", "-bf", "2", "-q:v", "6"), container="ts"),
}


@dataclass(frozen=True)
class Film:
    """A clip: `seconds` are encoded with a key frame every `gop` frames, and these `repeats` times
    joined without encoding them anew.
    """

    codec: str
    width: int
    height: int
    rate: int
    gop: int
    seconds: float
    repeats: int = 1
    noise: int = 10

    @property
    def name(self) -> str:
        """What the table calls it."""
        length = self.seconds * self.repeats
        return f"{self.codec} {self.width}x{self.height}@{self.rate}, {length:g} s, GOP {self.gop}"

    def path(self) -> Path:
        """Return the file, made now if it is not there."""
        encoder = ENCODERS[self.codec]
        stem = f"{self.name} noise {self.noise}".replace(" ", "_").replace(",", "").replace(".", "")
        path = FILMS / f"{stem}_x{self.repeats}.{encoder.container}"
        if path.exists():
            return path
        if self.repeats > 1:
            once = Film(**{**vars(self), "repeats": 1}).path()
            repeat = ("-stream_loop", str(self.repeats - 1), "-i", str(once))
            return _made(path, *repeat, "-c", "copy")
        source = (
            f"testsrc2=size={self.width}x{self.height}:rate={self.rate}:duration={self.seconds}"
        )
        keys = ("-g", str(self.gop), "-keyint_min", str(self.gop))
        picture = ("-vf", f"noise=alls={self.noise}:allf=t,format={encoder.pixels}")
        return _made(path, "-f", "lavfi", "-i", source, *picture, *encoder.options, *keys)


def _made(path: Path, *arguments: str) -> Path:
    """Run ffmpeg; the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{os.getpid()}_{path.name}")
    subprocess.run(["ffmpeg", "-y", "-v", "error", *arguments, str(part)], check=True)
    return part.rename(path)
