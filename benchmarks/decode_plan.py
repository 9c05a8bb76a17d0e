"""What planning saves, codec by codec: eight frames of a minute, planned against decoded whole.

    python -m benchmarks.decode_plan [--seconds N] [--rounds N]

A minute of 640x360 at 30 frames a second for each codec whose packets are read without decoding
(`model/inputs/video/bitstream`), made with ffmpeg at the key frame distance that is usual for it.
The frames of both ways must be the same. Processor time, one thread. Goal: planning takes at most
0.5 of a full decode in every codec; a parser that does not reach that does not earn its keep.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.lib.timing import publish
from model.command_line import Parser
from model.inputs import Clip, InputSpec, decode_clip
from model.inputs.video.sample import Plan

SPEC = InputSpec.official(8)
RATE, GOAL = 30, 0.5


@dataclass(frozen=True)
class Form:
    """One codec in a usual container; `gop` frames from key frame to key frame."""

    codec: str
    container: str
    gop: int
    options: tuple[str, ...] = ()

    def make(self, folder: Path, seconds: int) -> Path:
        """Encode a noisy moving test picture."""
        path = folder / f"{self.codec}.{self.container}"
        source = f"testsrc2=size=640x360:rate={RATE}:duration={seconds}"
        command = ["ffmpeg", "-y", "-v", "error", "-f", "lavfi", "-i", source]
        command += ["-vf", "noise=alls=8:allf=t", "-pix_fmt", "yuv420p", "-c:v", self.codec]
        command += ["-g", str(self.gop), *self.options, str(path)]
        subprocess.run(command, check=True, capture_output=True)
        return path


FAST_VPX = ("-deadline", "realtime", "-cpu-used", "8", "-b:v", "1M")
FORMS = (
    Form("libx264", "mp4", 250, ("-preset", "veryfast")),
    Form("libx265", "mp4", 250, ("-preset", "ultrafast", "-x265-params", "log-level=none")),
    Form("libvpx", "webm", 128, FAST_VPX),
    Form("libvpx-vp9", "webm", 128, FAST_VPX),
    Form("libsvtav1", "mp4", 160, ("-preset", "12")),
    Form("mpeg1video", "mpg", 15, ("-bf", "2", "-b:v", "1500k")),
    Form("mpeg2video", "ts", 15, ("-bf", "2", "-b:v", "3M")),
    Form("mpeg4", "avi", 250, ("-bf", "1", "-b:v", "1M")),
)


def timed(path: Path, plan: Plan) -> tuple[float, Clip]:
    """Return the milliseconds of this process's processors, and the clip."""
    started = time.process_time()
    with path.open("rb") as source:
        clip = decode_clip(source, SPEC, plan=plan)
    return 1e3 * (time.process_time() - started), clip


def row_of(form: Form, path: Path, rounds: int) -> dict[str, Any]:
    """Make the table line of one codec, its two ways in turns."""
    planned, full = [], []
    for _ in range(rounds):
        planned_ms, some = timed(path, "auto")
        full_ms, whole = timed(path, "full")
        if not np.array_equal(some.frames, whole.frames):
            raise RuntimeError(f"{form.codec}: planned frames are not those of a full decode")
        planned.append(planned_ms)
        full.append(full_ms)
    return {
        "codec": whole.info.codec,
        "container": form.container,
        "key frame every": form.gop,
        "planned_ms": round(median(planned), 1),
        "full_ms": round(median(full), 1),
        "of full": round(median(planned) / median(full), 3),
    }


def main(arguments: list[str]) -> int:
    """Measure; the exit status says whether the goal was met."""
    parser = Parser(prog="python -m benchmarks.decode_plan", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="length of each clip (60)")
    parser.add_argument("--rounds", type=int, default=3, help="alternated runs (3)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row_of(form, form.make(Path(folder), options.seconds), options.rounds) for form in FORMS
        ]
    publish(
        "decode_plan",
        f"python -m benchmarks.decode_plan --seconds {options.seconds} --rounds {options.rounds}",
        rows,
        goal=f"at most {GOAL} of a full decode in every codec",
    )
    return 0 if max(row["of full"] for row in rows) <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
