"""Decode files under hard limits, one JSON answer per line. Run by test_corpus in a process of
its own: what these files do to a process must not be done to pytest's.

stdin: one path per line. stdout: {"file", "outcome", ...} per path.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from model.inputs import (
    Clip,
    FrameRule,
    InputSpec,
    Undecodable,
    VideoError,
    decode_clip,
    decode_uncropped,
    limit_libav_allocations,
)

ADDRESS_SPACE = 2 << 30
ALLOCATION = 64 << 20
SPEC = InputSpec(num_frames=8, image_size=64, resize_short_side=64)
CELLS = 8
WORTH_DECODING = 100_000_000  # pixels in all frames together


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    limit_libav_allocations(ALLOCATION)
    for line in sys.stdin:
        answer = examine(Path(line.strip()))
        print(json.dumps(answer), flush=True)


def examine(path: Path) -> dict[str, Any]:
    Path("/proc/self/clear_refs").write_text("5")  # starts the peak of the resident set anew
    before, began = resident_kib("VmRSS"), time.process_time()
    with path.open("rb") as source:
        try:
            answer = accepted(source)
        except VideoError as error:
            answer = {"outcome": "reject", "code": error.code, "detail": error.detail}
        except Exception as error:
            answer = {"outcome": "crash", "error": repr(error)}
    return answer | {
        "file": path.name,
        "busy_s": time.process_time() - began,
        "growth_mib": (resident_kib("VmHWM") - before) / 1024,
    }


def accepted(source: Any) -> dict[str, Any]:
    try:
        clip = decode_uncropped(source, SPEC, sampling="test")
        bars = [bar_code(frame) for frame in clip.frames[0]]
    except Undecodable:
        clip = decode_clip(source, SPEC, crops=3)
        bars = [bar_code_of_crops(clip, i) for i in range(SPEC.num_frames)]
    return {
        "outcome": "accept",
        "frames": clip.info.frames,
        "width": clip.info.width,
        "height": clip.info.height,
        "codec": clip.info.codec,
        "times": clip.info.frame_times_s,
        "duration_s": clip.info.duration_s,
        "bars": bars,
        "same_as_full": same_as_full(source, clip),
    }


def same_as_full(source: Any, clip: Clip) -> bool | None:
    """Whether decoding everything gives the same by both frame rules; None where that would take
    minutes.
    """
    if clip.info.frames * clip.info.width * clip.info.height > WORTH_DECODING:
        return None
    for rule in FrameRule:
        full = decode_clip(source, SPEC, frame_rule=rule, plan="full")
        planned = decode_clip(source, SPEC, frame_rule=rule)
        if not (np.array_equal(full.frames, planned.frames) and full.info == planned.info):
            return False
    return True


def bar_code(frame: np.ndarray) -> int:
    """The number in the top eighth of a picture: eight cells, most significant bit left."""
    row = frame[max(frame.shape[0] // 16, 0)].mean(axis=-1)
    centres = ((np.arange(CELLS) + 0.5) * frame.shape[1] / CELLS).astype(int)
    return int("".join("1" if row[c] > 127 else "0" for c in centres), 2)


def bar_code_of_crops(clip: Clip, number: int) -> int:
    """The same from the crops at the start and the end of a landscape picture."""
    start, end = clip.frames[0, number], clip.frames[1, number]
    side = SPEC.image_size
    width = int(side * clip.info.width / clip.info.height + 0.5)
    whole = np.zeros((side, width, 3), dtype=np.uint8)
    whole[:, :side] = start
    last = (width - side) // 2 * 2
    whole[:, last : last + side] = end
    return bar_code(whole)


def resident_kib(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise RuntimeError(field)


if __name__ == "__main__":
    main()
