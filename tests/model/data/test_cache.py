"""Decoded frames that are kept: the same pixels as decoding gives, and never stale."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.data.config import AugmentConfig, DataConfig
from model.data.frames.cache import (
    CachedFrames,
    DrawnFromCache,
    FixedClips,
    WholeClips,
    cached_frames,
)
from model.data.frames.order import Draw
from model.data.frames.reading import TestClips, TrainingClips, Unusable
from model.data.lists.cliplist import ClipList, read_clips
from model.inputs import InputSpec, decode_uncropped
from tests.model.clip_sets import write_clip, write_table

SPEC = InputSpec.official(4, 48)
INLINE = DataConfig(workers=0)
PLAIN = AugmentConfig(scales=(1.0,), positions="centre", flip=0, jitter=0, grey=0)


@pytest.fixture
def clips(tmp_path: Path) -> ClipList:
    """Clips of 3 and 30 frames, and a broken one."""
    write_clip(tmp_path / "short.mp4", (200, 30, 30), frames=3)
    write_clip(tmp_path / "long.mp4", (30, 200, 30), frames=30)
    (tmp_path / "text.mp4").write_text("no video")
    rows = [("short.mp4", "a"), ("long.mp4", "b"), ("text.mp4", "b")]
    return read_clips([write_table(tmp_path / "list.csv", rows)], tmp_path)


def filled(clips: ClipList, folder: Path, frames: int = 64) -> CachedFrames:
    return cached_frames(WholeClips(clips, SPEC, frames), folder, INLINE, lambda: None)


def decoded(clips: ClipList, index: int, frames: int) -> np.ndarray:
    spec = SPEC.model_copy(update={"num_frames": frames})
    with clips.files.open(clips.samples[index].name) as stream:
        return decode_uncropped(stream, spec, sampling="test").frames[0]


def test_all_frames_of_a_short_clip_and_some_of_a_long_one(clips: ClipList, tmp_path: Path) -> None:
    cached = filled(clips, tmp_path / "cache", frames=10)
    assert (cached.read(0) == decoded(clips, 0, 3)).all()
    assert (cached.read(1) == decoded(clips, 1, 10)).all()


def test_drawing_from_it_equals_decoding(clips: ClipList, tmp_path: Path) -> None:
    drawn = DrawnFromCache(filled(clips, tmp_path / "cache"), SPEC.num_frames)
    kept = TrainingClips(clips, SPEC, AugmentConfig(), drawn)
    read = TrainingClips(clips, SPEC, AugmentConfig())
    for epoch in range(3):
        for index in (0, 1):
            draw = Draw(index, 0, epoch, 5)
            assert (kept[draw].frames == read[draw].frames).all()


def test_of_a_long_clip_kept_in_part_every_quarter_is_drawn_from(
    clips: ClipList, tmp_path: Path
) -> None:
    cached = filled(clips, tmp_path / "cache", frames=12)
    whole = cached.read(1)
    drawn = DrawnFromCache(cached, SPEC.num_frames)(1, np.random.default_rng(0))
    places = [int(np.flatnonzero((whole == frame).all(axis=(1, 2, 3)))[0]) for frame in drawn]
    assert [place // 3 for place in places] == [0, 1, 2, 3]


def test_a_broken_clip_keeps_its_reason(clips: ClipList, tmp_path: Path) -> None:
    cached = filled(clips, tmp_path / "cache")
    with pytest.raises(Unusable, match="not_a_video"):
        cached.read(2)
    clip = TrainingClips(clips, SPEC, PLAIN, DrawnFromCache(cached, 4))[Draw(2, 0, 0, 0)]
    assert clip.passed_over[0].name == "text.mp4"


def test_evaluation_views_are_kept_as_they_are(clips: ClipList, tmp_path: Path) -> None:
    test = TestClips(clips, SPEC, views=2)
    cached = cached_frames(FixedClips(test), tmp_path / "cache", INLINE, lambda: None)
    found, expected = TestClips(clips, SPEC, 2, read=cached.read)[1], test[1]
    assert found.views is not None
    assert (found.views == expected.views).all()


def test_it_is_filled_once_and_anew_when_a_clip_or_the_size_changes(
    clips: ClipList, tmp_path: Path
) -> None:
    folder, seen = tmp_path / "cache", []
    source = WholeClips(clips, SPEC, 8)
    for _ in range(2):
        cached_frames(source, folder, INLINE, lambda: seen.append(1))
    assert len(seen) == 3
    write_clip(tmp_path / "short.mp4", (30, 30, 200), frames=5)
    changed = cached_frames(source, folder, INLINE, lambda: seen.append(1))
    assert len(seen) == 6
    assert len(changed.read(0)) == 5
    larger = SPEC.model_copy(update={"resize_short_side": 60})
    other = cached_frames(WholeClips(clips, larger, 8), folder, INLINE, lambda: seen.append(1))
    assert other.read(0).shape[1] == 60


def test_copies_for_other_processes_are_small(clips: ClipList, tmp_path: Path) -> None:
    cached = filled(clips, tmp_path / "cache")
    pixels = cached.read(1)
    again: CachedFrames = pickle.loads(pickle.dumps(cached))
    assert len(pickle.dumps(cached)) < 2000
    assert (again.read(1) == pixels).all()


def test_a_full_disk_is_one_line_and_leaves_no_half_cache(clips: ClipList, tmp_path: Path) -> None:
    """A process that may write no file over 30 kB."""
    code = f"""
import resource, sys
from pathlib import Path
from model.data.frames.cache import WholeClips, cached_frames
from model.data.lists.cliplist import read_clips
from model.data.config import DataConfig
from model.data.errors import DataError
from model.inputs import InputSpec
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
clips = read_clips([Path("{tmp_path}/list.csv")], Path("{tmp_path}"))
source = WholeClips(clips, InputSpec.official(4, 48), 64)
try:
    cached_frames(source, Path("{tmp_path}/cache"), DataConfig(workers=0), lambda: None)
except DataError as error:
    sys.exit(f"refused: {{error}}")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stderr.startswith("refused: decoded frames cannot be kept"), run.stderr
    assert list((tmp_path / "cache").iterdir()) == []
    assert len(filled(clips, tmp_path / "cache").read(1)) == 30
