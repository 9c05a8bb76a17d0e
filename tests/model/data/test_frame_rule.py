"""Clips of a set, read by the rule of key frames."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from model.data.config import AugmentConfig, DataConfig
from model.data.frames.cache import FixedClips, WholeClips, cached_frames
from model.data.frames.order import Draw
from model.data.frames.reading import TestClips, TrainingClips
from model.data.lists.cliplist import ClipList, read_clips
from model.inputs import FrameRule, InputSpec, decode_clip
from tests.model.clip_sets import write_table

SPEC = InputSpec.official(4, 48)
PLAIN = AugmentConfig(scales=(1.0,), positions="centre", flip=0, jitter=0, grey=0)
INLINE = DataConfig(workers=0)
GROUP, FRAMES = 8, 64
STEP = 3  # of brightness, from frame to frame


@pytest.fixture
def clips(tmp_path: Path) -> ClipList:
    """One clip that grows brighter, with a key frame every `GROUP` frames."""
    options = {"g": str(GROUP), "bf": "0", "sc_threshold": "0"}
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=8, options=options)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for i in range(FRAMES):
            picture = np.full((64, 64, 3), STEP * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return read_clips([write_table(tmp_path / "list.csv", [("clip.mp4", "a")])], tmp_path)


def numbers(frames: np.ndarray) -> list[int]:
    """Which frames of the clip these are, by their brightness."""
    return [round(float(frame.mean()) / STEP) for frame in frames.reshape(-1, *frames.shape[-3:])]


def test_the_views_of_an_evaluation(clips: ClipList) -> None:
    found = TestClips(clips, SPEC, views=2, frame_rule=FrameRule.KEYFRAMES)[0].views
    with clips.files.open("clip.mp4") as stream:
        expected = decode_clip(stream, SPEC, views=2, frame_rule=FrameRule.KEYFRAMES).frames
    assert found is not None
    assert (found == expected).all()
    assert all(number % GROUP == 0 for number in numbers(found))


def test_training_draws_key_frames(clips: ClipList) -> None:
    training = TrainingClips(clips, SPEC, PLAIN, frame_rule=FrameRule.KEYFRAMES)
    drawn = [tuple(numbers(training[Draw(0, 0, epoch, 0)].frames)) for epoch in range(12)]
    assert len(set(drawn)) > 3
    assert all(number % GROUP == 0 for clip in drawn for number in clip)


def test_a_cache_belongs_to_a_rule(clips: ClipList, tmp_path: Path) -> None:
    by_rule = {
        rule: cached_frames(WholeClips(clips, SPEC, 8, rule), tmp_path, INLINE, lambda: None)
        for rule in FrameRule
    }
    keyed, exact = by_rule[FrameRule.KEYFRAMES], by_rule[FrameRule.EXACT]
    assert keyed.file != exact.file
    assert numbers(keyed.read(0)) == list(range(0, FRAMES, GROUP))
    assert numbers(exact.read(0)) == list(range(GROUP // 2, FRAMES, GROUP))
    ways = {FixedClips(TestClips(clips, SPEC, frame_rule=rule)).way for rule in FrameRule}
    assert len(ways) == 2
