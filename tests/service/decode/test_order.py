"""An answer depends on its clip alone, not on what the worker decoded before."""

from __future__ import annotations

import asyncio
import subprocess
from hashlib import sha256
from pathlib import Path

import pytest

from model.inputs import InputSpec, decode_clip
from service.decode import DecodePool, PoolOptions, TooDemanding
from tests.service.decode.conftest import PATIENCE

MIB = 1 << 20
SPEC = InputSpec.official(8, 112)
# From too little for the demanding clip to enough. It needs 31 to 32, as the threads of decoders
# take turns: the second is as near as is sure.
MEMORY = (24, 33, 34, 40)


def clip(path: Path, *coding: str) -> Path:
    source = ("-f", "lavfi", "-i", "testsrc2=size=2048x1152:rate=5:duration=1")
    command = ["ffmpeg", "-y", "-loglevel", "error", *source, *coding, str(path)]
    subprocess.run(command, check=True)
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One that needs much memory for a picture, and one that needs large blocks of it."""
    folder = tmp_path_factory.mktemp("clips")
    deep = clip(folder / "deep.mkv", "-pix_fmt", "yuv444p16", "-c:v", "ffv1", "-slices", "4")
    plain = clip(
        folder / "plain.mp4", "-pix_fmt", "yuv420p", "-c:v", "libx264", "-preset", "ultrafast"
    )
    return deep, plain


async def outcomes(memory: int, *paths: Path) -> list[str]:
    """What becomes of these clips, one after the other in one worker."""
    options = PoolOptions(**PATIENCE, spares=0, memory_bytes=memory * MIB)
    pool = DecodePool(1, SPEC, options=options)
    await pool.start()
    try:
        outcomes = []
        for path in paths:
            try:
                clip = await pool.decode(path)
            except TooDemanding as error:
                outcomes.append(error.code)
            else:
                outcomes.append(sha256(clip.frames.tobytes()).hexdigest())
        return outcomes
    finally:
        await pool.stop()


def test_the_order_of_clips_does_not_matter(clips: tuple[Path, Path]) -> None:
    """Not for whether there is memory enough, and not for what is seen."""
    deep, plain = clips
    seen = set()
    for memory in MEMORY:
        (alone,), (plain_alone,) = (asyncio.run(outcomes(memory, path)) for path in clips)
        in_turn = asyncio.run(outcomes(memory, plain, deep, plain, deep))
        assert in_turn == [plain_alone, alone] * 2, memory
        seen.add(alone)
    with deep.open("rb") as file:
        right = sha256(decode_clip(file, SPEC).frames.tobytes()).hexdigest()
    assert seen == {right, "video_too_demanding"}
