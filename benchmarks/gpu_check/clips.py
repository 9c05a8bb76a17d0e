"""What every contestant is shown: clips, and texts as token ids."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.gpu_check.outcomes import one_line
from benchmarks.lib.timing import RESULTS
from model.inputs.spec import InputSpec
from model.network.config import ModelConfig

TEXTS, LONGEST_TEXT = 400, 20
ROOT = RESULTS.parent.parent


@dataclass(frozen=True)
class Shown:
    """Frames uint8 (N,T,H,W,3) and where they come from."""

    frames: np.ndarray
    source: str


def shown(paths: Sequence[Path], spec: InputSpec) -> Shown:
    """Decode the named files, else the shared ones, else clips encoded on the spot; each also
    mirrored, backwards, and both. Without a decoder pictures that are drawn. ValueError names a
    file that cannot be read.
    """
    try:
        from export.clips import load_clips
    except ImportError as error:
        return Shown(varied(drawn(spec)), f"drawn pictures, no real clips: {one_line(error)}")
    files = tuple(paths) or shared_videos()
    clips = load_clips(files, spec)
    return Shown(varied(clips.frames), ", ".join(clips.names) + f" ({clips.source})")


def shared_videos() -> tuple[Path, ...]:
    """Return the real clips of the tests, where there are any."""
    folder = Path(os.environ.get("XCLIP_TEST_SHARED", ROOT.parent / "shared")) / "videos"
    return tuple(sorted(p for p in folder.glob("*") if p.suffix in (".mp4", ".mkv", ".avi")))


def varied(frames: np.ndarray) -> np.ndarray:
    """Vary (N,T,H,W,3) into (4 N,T,H,W,3): more pictures and motions than there are files."""
    backwards = frames[:, ::-1]
    mirrored = [clips[:, :, :, ::-1] for clips in (frames, backwards)]
    return np.ascontiguousarray(np.concatenate([frames, backwards, *mirrored]))


def drawn(spec: InputSpec, clips: int = 3) -> np.ndarray:
    """Draw waves that roll over the picture, another few for each clip: (N,T,H,W,3)."""
    rng = np.random.default_rng(0)
    side = spec.image_size
    y, x = np.mgrid[0:side, 0:side] / side
    time = np.arange(spec.num_frames)[:, None, None, None] / spec.num_frames
    made = []
    for _ in range(clips):
        across, down, speed, phase = rng.uniform(-20, 20, (4, 3))
        waves = np.sin(x[..., None] * across + y[..., None] * down + time * speed + phase)
        made.append((127.5 + 127.5 * waves).astype(np.uint8))
    return np.stack(made)


def texts(config: ModelConfig) -> np.ndarray:
    """Draw token ids int64 (K,L): a start, up to 18 random tokens, an end, padding.

    The network is random, so words would tell it nothing that numbers do not.
    """
    rng = np.random.default_rng(1)
    length = min(LONGEST_TEXT, config.context_length)
    start, end = config.vocab_size - 2, config.vocab_size - 1
    ids = rng.integers(1, start, (TEXTS, length))
    ends = rng.integers(2, length, TEXTS)
    ids[:, 0] = start
    ids[np.arange(TEXTS), ends] = end
    ids[np.arange(length) > ends[:, None]] = 0
    return ids
