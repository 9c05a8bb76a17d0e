"""Clips as arrays, and what happens to those that cannot be decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from model.data.config import AugmentConfig, DataConfig
from model.data.errors import DataError
from model.data.frames.loading import training_batches
from model.data.frames.order import Draw, Plan
from model.data.frames.reading import TestClips, TrainingClips
from model.data.lists.cliplist import ClipList, read_clips
from model.inputs import InputSpec, decode_clip
from tests.model.clip_sets import write_clip, write_table

SPEC = InputSpec.official(4, 48)
PLAIN = AugmentConfig(scales=(1.0,), positions="centre", flip=0, jitter=0, grey=0)


@pytest.fixture
def with_broken(tmp_path: Path) -> ClipList:
    """Two clips that can be decoded, a text, and one that is not there."""
    for i in range(2):
        write_clip(tmp_path / f"{i}.mp4", (200, 30, 30), seed=i)
    (tmp_path / "text.mp4").write_text("no video")
    rows = [("0.mp4", "a"), ("text.mp4", "a"), ("1.mp4", "b"), ("none.mp4", "b")]
    return read_clips([write_table(tmp_path / "list.csv", rows)], tmp_path)


def test_a_training_clip_has_augmented_frames_its_class_and_a_wording(clip_set: Path) -> None:
    clips = read_clips([clip_set / "train.csv"], clip_set / "clips")
    clip = TrainingClips(clips, SPEC, AugmentConfig())[Draw(7, 0, 0, 0)]
    assert clip.frames.shape == (4, 48, 48, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.label == clips.samples[7].label == 1
    assert clips.wordings[clip.wording] == "green clip"
    assert clip.passed_over == ()


def test_training_draws_other_frames_each_time_and_the_same_for_one_draw(clip_set: Path) -> None:
    clips = TrainingClips(read_clips([clip_set / "train.csv"], clip_set / "clips"), SPEC, PLAIN)
    first, again = clips[Draw(0, 0, 0, 3)].frames, clips[Draw(0, 0, 0, 3)].frames
    assert (first == again).all()
    assert any((clips[Draw(0, 0, epoch, 3)].frames != first).any() for epoch in range(1, 4))


def test_a_broken_clip_is_replaced_named_and_the_same_one_next_time(with_broken: ClipList) -> None:
    clips = TrainingClips(with_broken, SPEC, PLAIN)
    found = [clips[Draw(1, 0, epoch, 0)] for epoch in range(6)]
    assert {clip.index for clip in found} <= {0, 2}
    for clip in found:
        assert clip.label == with_broken.samples[clip.index].label
        assert clip.passed_over[0].name == "text.mp4"
        assert clip.passed_over[0].reason.startswith("not_a_video")
    assert [clips[Draw(1, 0, e, 0)].index for e in range(6)] == [clip.index for clip in found]
    missing = clips[Draw(3, 0, 0, 0)].passed_over[0]
    assert (missing.name, missing.reason) == ("none.mp4", "missing")


def test_nothing_but_broken_clips_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    file = write_table(tmp_path / "list.csv", [("text.mp4", "a")])
    clips = TrainingClips(read_clips([file], tmp_path), SPEC, PLAIN)
    with pytest.raises(DataError, match=r"text\.mp4 .*model\.data check"):
        clips[Draw(0, 0, 0, 0)]


@pytest.mark.parametrize(("views", "crops"), [(1, 1), (2, 3)])
def test_a_test_clip_is_what_decode_clip_gives(clip_set: Path, views: int, crops: int) -> None:
    clips = read_clips([clip_set / "val.csv"], clip_set / "clips")
    found = TestClips(clips, SPEC, views, crops)[3]
    with clips.files.open(clips.samples[3].name) as stream:
        expected = decode_clip(stream, SPEC, views=views, crops=crops).frames
    assert found.views is not None
    assert (found.views == expected).all()


def test_a_broken_test_clip_says_why(with_broken: ClipList) -> None:
    clip = TestClips(with_broken, SPEC)[1]
    assert clip.views is None
    assert clip.broken is not None
    assert clip.broken.name == "text.mp4"


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_give_the_same_batches_in_the_same_order(clip_set: Path, workers: int) -> None:
    clips = TrainingClips(
        read_clips([clip_set / "train.csv"], clip_set / "clips"), SPEC, AugmentConfig()
    )
    plan = Plan(24, 8, 4, 1, seed=3)
    batches = list(training_batches(clips, plan, 0, 1, 4, DataConfig(workers=workers)))
    draws = list(plan.draws(0, 1, 4))
    assert [batch.indices.tolist() for batch in batches] == [[d.index for d in m] for m in draws]
    for batch, drawn in zip(batches, draws, strict=True):
        expected = [clips[draw] for draw in drawn]
        assert (batch.frames.numpy() == np.stack([clip.frames for clip in expected])).all()
        assert batch.labels.tolist() == [clip.label for clip in expected]
