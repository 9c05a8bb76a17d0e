"""How much memory a decode worker needs for the largest pictures that are accepted.

    python -m benchmarks.decode_memory [--only TEXT]

Twenty pictures of 4096x2304 in every form that holds many or large ones: H.264 and HEVC with as
many reference frames as they may have, 8 to 12 bits, 4:2:0 and 4:4:4, AV1 with film grain, VP9,
ProRes with transparency, and others that editors write. Each is sent to a confined worker, with one
view and with eight, and the smallest `decode_memory_bytes` is sought with which it is not refused.
Goal: the default is enough for all.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.lib.films import FILMS
from benchmarks.lib.timing import publish
from model.command_line import Parser
from model.inputs import InputSpec, VideoLimits
from service.decode import DecodePool, PoolOptions, TooDemanding

SPEC = InputSpec.official(8)
WIDTH, HEIGHT, PICTURES = 4096, 2304, 20
PIXELS = WIDTH * HEIGHT
STEP = 24 << 20
MOST_BYTES_PER_PIXEL = 160
# More references than six x265 refuses.
X265 = "log-level=none:bframes=4:ref={}:keyint=60"
FORMS: dict[str, tuple[str, str, str]] = {
    "H.264, usual": ("yuv420p", "mp4", "-c:v libx264 -preset veryfast"),
    "H.264, 16 references": (
        "yuv420p",
        "mp4",
        "-c:v libx264 -preset ultrafast -x264-params ref=16:bframes=3:b-pyramid=normal",
    ),
    "H.264 10 bit, 16 references": (
        "yuv420p10le",
        "mp4",
        "-c:v libx264 -preset ultrafast -x264-params ref=16:bframes=3:b-pyramid=normal",
    ),
    "H.264 10 bit 4:4:4, 16 references": (
        "yuv444p10le",
        "mp4",
        "-c:v libx264 -preset ultrafast -x264-params ref=16:bframes=3:b-pyramid=normal",
    ),
    "HEVC, usual": ("yuv420p", "mp4", "-c:v libx265 -preset ultrafast -x265-params log-level=none"),
    "HEVC 10 bit, B-frames": (
        "yuv420p10le",
        "mp4",
        f"-c:v libx265 -preset ultrafast -x265-params {X265.format(5)}",
    ),
    "HEVC 10 bit, 6 references": (
        "yuv420p10le",
        "mp4",
        f"-c:v libx265 -preset ultrafast -x265-params {X265.format(6)}",
    ),
    "HEVC 12 bit": (
        "yuv420p12le",
        "mp4",
        f"-c:v libx265 -preset ultrafast -x265-params {X265.format(5)}",
    ),
    "HEVC 12 bit 4:4:4": (
        "yuv444p12le",
        "mp4",
        f"-c:v libx265 -preset ultrafast -x265-params {X265.format(5)}",
    ),
    "AV1": ("yuv420p", "mp4", "-c:v libsvtav1 -preset 12"),
    "AV1 10 bit, grain": (
        "yuv420p10le",
        "mp4",
        "-c:v libsvtav1 -preset 12 -svtav1-params film-grain=20",
    ),
    "VP9": ("yuv420p", "webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -row-mt 1"),
    "VP9 10 bit": ("yuv420p10le", "webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8"),
    "MPEG-4": ("yuv420p", "avi", "-c:v mpeg4 -bf 1"),
    "MPEG-2": ("yuv420p", "mkv", "-c:v mpeg2video -bf 2"),
    "ProRes 422": ("yuv422p10le", "mov", "-c:v prores_ks -profile:v 3"),
    "ProRes 4444, transparent": (
        "yuva444p10le",
        "mov",
        "-c:v prores_ks -profile:v 4444xq -alpha_bits 16",
    ),
    "DNxHR 4:4:4": ("yuv444p10le", "mov", "-c:v dnxhd -profile:v dnxhr_444"),
    "FFV1 16 bit, transparent": ("yuva444p16le", "mkv", "-c:v ffv1 -level 3"),
    "PNG 16 bit, transparent": ("rgba64be", "mov", "-c:v png"),
    "Motion JPEG 4:4:4": ("yuvj444p", "avi", "-c:v mjpeg -q:v 8"),
}


def film(name: str) -> Path:
    """Return twenty pictures in a form, made now if they are not there."""
    pixels, container, options = FORMS[name]
    stem = "".join(c if c.isalnum() else "_" for c in name)
    path = FILMS / f"memory_{stem}.{container}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"part_{path.name}")
        source = f"testsrc2=size={WIDTH}x{HEIGHT}:rate=30,noise=alls=4:allf=t,format={pixels}"
        command = ["ffmpeg", "-y", "-v", "error", "-f", "lavfi", "-i", source]
        command += ["-frames:v", str(PICTURES), "-strict", "experimental", *options.split()]
        subprocess.run([*command, str(part)], check=True)
        part.rename(path)
    return path


async def fits(path: Path, views: int, memory_bytes: int) -> bool:
    """Tell whether a worker with so much memory decodes the clip."""
    options = PoolOptions(memory_bytes=memory_bytes, max_decode_s=600, spares=0)
    pool = DecodePool(1, SPEC, VideoLimits(), options)
    await pool.start()
    try:
        await pool.decode(path, views=views)
    except TooDemanding:
        return False
    finally:
        await pool.stop()
    return True


def needed_bytes(path: Path, views: int) -> int:
    """Seek the smallest memory with which a clip is decoded."""
    below, enough = 4 * PIXELS, MOST_BYTES_PER_PIXEL * PIXELS
    while enough - below > STEP:
        middle = (below + enough) // 2
        if asyncio.run(fits(path, views, middle)):
            enough = middle
        else:
            below = middle
    return enough


def main(arguments: list[str]) -> int:
    """Measure; the exit status says whether the default is enough for all."""
    parser = Parser(prog="python -m benchmarks.decode_memory", description=__doc__)
    parser.add_argument("--only", default="", help="only forms whose name contains this")
    only = parser.parse_args(arguments).only
    rows: list[dict[str, Any]] = []
    for name in (n for n in FORMS if only in n):
        for views in (1, 8):
            needed = needed_bytes(film(name), views)
            rows.append(
                {
                    "form": name,
                    "views": views,
                    "MiB": needed >> 20,
                    "bytes a pixel": round(needed / PIXELS, 1),
                }
            )
            print(rows[-1], flush=True)
    default = PoolOptions().memory_bytes
    if not only:
        publish(
            "decode_memory",
            "python -m benchmarks.decode_memory",
            rows,
            picture=f"{WIDTH}x{HEIGHT}",
            default_mib=default >> 20,
        )
    return int(max(row["MiB"] for row in rows) > default >> 20)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
