"""Clips to decode, made with ffmpeg: a moving test picture with noise, so that they take bits as a
camera's do, or what a hand-held camera sees, at the bit rates of phones. Each is made once and kept
in `build/films`.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

FILMS = Path(__file__).resolve().parents[2] / "build" / "films"

X265_PARAMS = "log-level=none:scenecut=0:bframes=3:b-adapt=0"
VP9 = ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-row-mt", "1")
AV1 = ("-c:v", "libsvtav1", "-preset", "12")
# Megabits a second that phones record with, by codec, lines and pictures a second: an iPhone's
# settings name them as megabytes a minute (H.264 at 4K60: Android phones).
PHONES = {
    ("H.264", 1080, 30): 17,
    ("H.264", 1080, 60): 23,
    ("H.264", 2160, 30): 47,
    ("H.264", 2160, 60): 72,
    ("HEVC", 1080, 30): 8,
    ("HEVC", 1080, 60): 12,
    ("HEVC", 2160, 30): 23,
    ("HEVC", 2160, 60): 53,
}
# Pixels on each side that a camera's picture may move by.
MARGIN = 128


@dataclass(frozen=True)
class Encoder:
    """How ffmpeg is asked for a codec, and the container that it usually comes in."""

    options: tuple[str, ...]
    quality: tuple[str, ...]
    container: str = "mp4"
    pixels: str = "yuv420p"


X264 = ("-c:v", "libx264", "-preset", "veryfast", "-sc_threshold", "0")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", X265_PARAMS)
ENCODERS = {
    "H.264": Encoder(X264, ("-crf", "26")),
    "HEVC": Encoder(X265, ("-crf", "28")),
    "HEVC 10 bit": Encoder(X265, ("-crf", "28"), pixels="yuv420p10le"),
    "VP9": Encoder(VP9, ("-crf", "36", "-b:v", "0"), container="webm"),
    "AV1": Encoder(AV1, ("-crf", "40")),
    "AV1, grain": Encoder((*AV1, "-svtav1-params", "film-grain=12"), ("-crf", "40")),
    "MPEG-4": Encoder(("-c:v", "mpeg4", "-bf", "1"), ("-q:v", "6"), container="avi"),
    "MPEG-2": Encoder(("-c:v", "mpeg2video", "-bf", "2"), ("-q:v", "6"), container="ts"),
}


@dataclass(frozen=True)
class Film:
    """A clip: `seconds` are encoded with a key frame every `gop` frames, and these `repeats` times
    joined without encoding them anew. With `megabits` a second it is a camera's, else of one
    quality.
    """

    codec: str
    width: int
    height: int
    rate: int
    gop: int
    seconds: float
    repeats: int = 1
    noise: int = 10
    megabits: int = 0

    @property
    def name(self) -> str:
        """What the table calls it."""
        length = self.seconds * self.repeats
        name = f"{self.codec} {self.width}x{self.height}@{self.rate}, {length:g} s, GOP {self.gop}"
        return f"{name}, {self.megabits} Mbit/s" if self.megabits else name

    @property
    def file(self) -> Path:
        """Where the film lies once it is made."""
        stem = f"{self.name} noise {self.noise} x{self.repeats}"
        stem = stem.translate({ord(" "): "_", ord("/"): "_", ord(","): None, ord("."): None})
        return FILMS / f"{stem}.{ENCODERS[self.codec].container}"

    def path(self) -> Path:
        """Return the file, made now if it is not there."""
        if self.file.exists():
            return self.file
        if self.repeats > 1:
            once = Film(**{**vars(self), "repeats": 1}).path()
            repeat = ("-stream_loop", str(self.repeats - 1), "-i", str(once))
            return _made(self.file, *repeat, "-c", "copy")
        encoder = ENCODERS[self.codec]
        source, seen = self._camera() if self.megabits else self._test_picture()
        picture = ("-vf", f"{seen},noise=alls={self.noise}:allf=t,format={encoder.pixels}")
        keys = ("-g", str(self.gop), "-keyint_min", str(self.gop))
        made = ("-f", "lavfi", "-i", source, *picture, *encoder.options, *self._quality(), *keys)
        return _made(self.file, *made)

    def _test_picture(self) -> tuple[str, str]:
        return self._source(self.width, self.height), "null"

    def _camera(self) -> tuple[str, str]:
        """A textured scene, with things that move in it, seen by a camera that is held by hand."""
        scene = self._source(self.width + 2 * MARGIN, self.height + 2 * MARGIN)
        place = (f"{MARGIN}+{MARGIN * 0.8}*{wave}(PI*t)" for wave in ("sin", "cos"))
        hand = ":".join((str(self.width), str(self.height), *place))
        return scene, f"noise=alls=12:all_seed=7,gblur=sigma=1,crop={hand}"

    def _source(self, width: int, height: int) -> str:
        return f"testsrc2=size={width}x{height}:rate={self.rate}:duration={self.seconds}"

    def _quality(self) -> tuple[str, ...]:
        if not self.megabits:
            return ENCODERS[self.codec].quality
        rate = f"{self.megabits}M"
        return ("-b:v", rate, "-maxrate", f"{1.5 * self.megabits:g}M", "-bufsize", rate)


def phone_film(codec: str, size: tuple[int, int], rate: int) -> Film:
    """Return ten seconds as a phone records them, a key frame a second."""
    megabits = PHONES[codec.removesuffix(" 10 bit"), size[1], rate]
    return Film(codec, *size, rate, rate, 2, 5, noise=12, megabits=megabits)


def _made(path: Path, *arguments: str) -> Path:
    """Run ffmpeg; the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{os.getpid()}_{path.name}")
    subprocess.run(["ffmpeg", "-y", "-v", "error", *arguments, str(part)], check=True)
    return part.rename(path)
