"""Sets of clips on the disk: real files, and tables that training reads."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from model.data.lists.cliplist import read_clips
from model.data.lists.labels import read_labels
from model.data.shapes.__main__ import main
from model.data.shapes.dataset import _draw_subject
from model.data.shapes.files import FORMATS, write_video
from model.data.shapes.vocabulary import may_be_trained_on
from model.inputs import InputSpec, decode_clip

SMALL = ["--clips", "6", "--val-clips", "2", "--unseen-clips", "3", "--turn-clips", "2"]
SMALL += ["--largest", "80"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes")
    assert main([str(folder), *SMALL, "--workers", "1"]) == 0
    return folder


def test_every_clip_decodes_and_every_table_reads(made: Path) -> None:
    labels = read_labels(made / "labels.csv")
    counts = {"train": 6, "val": 2, "unseen": 3, "wordings": 3, "turns": 2}
    for split, count in counts.items():
        clips = read_clips([made / f"{split}.csv"], made, labels)
        assert len(clips) == count
        for sample in clips.samples:
            with clips.files.open(sample.name) as stream:
                clip = decode_clip(stream, InputSpec.official(8, 64))
            assert clip.frames.shape == (1, 8, 64, 64, 3)


def test_unseen_clips_are_under_labels_that_training_lacks(made: Path) -> None:
    def labels_in(split: str) -> set[int]:
        return {s.label for s in read_clips([made / f"{split}.csv"], made).samples}

    labels = read_labels(made / "labels.csv")
    train = {s.label for s in read_clips([made / "train.csv"], made, labels).samples}
    unseen = {s.label for s in read_clips([made / "unseen.csv"], made, labels).samples}
    assert labels_in("train")
    assert not train & unseen


def test_further_turns_are_of_combinations_that_may_be_trained_on() -> None:
    subjects = {_draw_subject(np.random.default_rng(seed), "turns") for seed in range(300)}
    assert {subject.motion for subject in subjects} == {"clockwise", "anticlockwise"}
    assert all(may_be_trained_on(subject) for subject in subjects)


def test_stills_are_called_by_what_each_frame_shows(made: Path) -> None:
    for split, stills in (("train", "stills"), ("val", "stills_val")):
        with (
            (made / f"{split}.csv").open(newline="") as one,
            (made / f"{stills}.csv").open(newline="") as other,
        ):
            for row, still in zip(csv.DictReader(one), csv.DictReader(other), strict=True):
                assert row["path"] == still["path"]
                assert row["label"].startswith(still["label"] + " ")
                assert len(still["label"].split()) == 3
                captions = json.loads(still["captions"])
                assert captions[0] == still["label"]
                assert set(captions) - set(json.loads(row["captions"])) <= {
                    c for c in captions if c.split()[1] in ("small", "large", "big")
                }


def test_shapes_that_the_demo_does_not_know(tmp_path: Path) -> None:
    assert main([str(tmp_path), "--new-shapes", "2", "--largest", "64"]) == 0
    labels = read_labels(tmp_path / "labels.csv")
    assert len(labels.names) == 5
    for split, count in (("train", 10), ("val", 100)):
        clips = read_clips([tmp_path / f"{split}.csv"], tmp_path, labels)
        assert np.bincount([s.label for s in clips.samples]).tolist() == [count // 5] * 5
        with clips.files.open(clips.samples[-1].name) as stream:
            assert decode_clip(stream, InputSpec.official(8, 64)).info.frames >= 8


def test_captions_begin_with_the_label_in_training_and_never_in_unseen_wordings(made: Path) -> None:
    for split, expected in (("train", True), ("wordings", False)):
        with (made / f"{split}.csv").open(newline="") as stream:
            for row in csv.DictReader(stream):
                assert (row["label"] in json.loads(row["captions"])) == expected


def test_the_same_seed_makes_the_same_set_in_parallel_too(made: Path, tmp_path: Path) -> None:
    assert main([str(tmp_path), *SMALL, "--workers", "2"]) == 0
    for table in made.glob("*.csv"):
        assert (tmp_path / table.name).read_text() == table.read_text()
    for file in (made / "clips").rglob("*.*"):
        assert file.read_bytes() == (tmp_path / file.relative_to(made)).read_bytes()


@pytest.mark.parametrize("encoding", FORMATS)
def test_the_same_frames_make_the_same_file_whatever_memory_holds(
    encoding: str, tmp_path: Path
) -> None:
    small = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    picture = np.kron(small, np.ones((8, 8, 1), np.uint8))
    frames = [np.roll(picture, 3 * i, axis=1) for i in range(40)]
    file, written = tmp_path / f"clip{FORMATS[encoding].suffix}", set()
    for turn in range(8):
        np.random.default_rng(turn).bytes((turn % 4) << 20)  # what lies where the encoder will
        write_video(file, frames, rate=20, encoding=encoding)
        written.add(file.read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--clips", "-1"], "must not be negative"),
        (["--largest", "20"], "64 or more"),
        (["--pictures", "nowhere"], "holds no picture"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "out"), *arguments]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
