"""A folder of clips with the tables that training and evaluation read.

    clips/00/000000.mp4 …   the files
    train.csv               path,label,captions: every phrase that is true of a clip
    val.csv                 seen combinations, clips of their own
    unseen.csv              combinations that training does not have
    wordings.csv            clips of unseen combinations under phrases that training does not have
    stills.csv              the clips of train.csv under what can be seen in each frame alone
    stills_val.csv          those of val.csv in the same way
    places.csv              clips of things at rest, under phrases that tell where and how they are
    turns.csv               more clips of things that turn, under phrases that tell which way
    labels.csv              every label (id,name)

The place of a clip in the set and the seed decide it, so a longer set begins like a shorter one.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
from torch.utils.data import Dataset

from model.data.config import DataConfig
from model.data.frames.loading import in_workers
from model.data.lists.labels import write_labels
from model.data.shapes.drawing import draw_frames
from model.data.shapes.files import FORMATS, draw_format, write_video
from model.data.shapes.outlines import NEW
from model.data.shapes.scene import SceneOptions, draw_scene
from model.data.shapes.vocabulary import (
    COLOUR_NAMES,
    DIRECTIONS,
    OUTLINES,
    REST,
    TURNS,
    Subject,
    all_subjects,
    is_held_out,
    may_be_trained_on,
)
from model.data.shapes.wordings import (
    held_out_wordings,
    place_wordings,
    plain_label,
    still_label,
    still_wordings,
    turn_wordings,
    wordings,
)

CLIPS_OF_A_FOLDER = 1000
AHEAD = 16  # clips that a worker may be ahead
PLAIN_MOTIONS = (*DIRECTIONS, "growing", "shrinking")
# With the number of each split's own random numbers; 4 and 5 are those of new shapes.
SPLITS = {"train": 0, "val": 1, "unseen": 2, "places": 3, "turns": 6}
MOST_AT_REST = 8
STILLS = {"train": "stills.csv", "val": "stills_val.csv"}


@dataclass(frozen=True)
class ShapesOptions:
    """How many clips, which kind, and from which seed."""

    clips: int
    val_clips: int = 200
    unseen_clips: int = 300
    place_clips: int = 0
    turn_clips: int = 0
    seed: int = 0
    scenes: SceneOptions = field(default_factory=SceneOptions)
    h264_only: bool = False


@dataclass(frozen=True)
class ShapeClip:
    """One clip as it stands in the tables."""

    path: str
    subject: Subject
    captions: tuple[str, ...]
    stills: tuple[str, ...] = ()
    label: str = ""


def make_dataset(
    output: Path,
    options: ShapesOptions,
    *,
    workers: int = 1,
    on_clip: Callable[[], object] = lambda: None,
) -> None:
    """Draw and encode all clips, then write the tables; files that are there are drawn again.

    `on_clip` is called after each clip.
    """
    counts = dict(
        zip(
            SPLITS,
            (
                options.clips,
                options.val_clips,
                options.unseen_clips,
                options.place_clips,
                options.turn_clips,
            ),
            strict=True,
        )
    )
    jobs = [(split, i) for split, count in counts.items() for i in range(count)]
    for split, count in counts.items():
        for i in range(0, count, CLIPS_OF_A_FOLDER):
            (output / _folder(split, i)).mkdir(parents=True, exist_ok=True)
    clips: list[ShapeClip] = []
    for clip in _drawn(_Drawing(output, options, jobs), workers):
        clips.append(clip)
        on_clip()
    done = 0
    for split, count in counts.items():
        of_split = clips[done : done + count]
        write_table(output / f"{split}.csv", of_split)
        if split in STILLS:
            _write_stills(output / STILLS[split], of_split)
        if split == "unseen":
            write_table(output / "wordings.csv", _unseen_wordings(of_split))
        done += count
    write_labels(output / "labels.csv", [plain_label(subject) for subject in all_subjects()])


def make_clip(output: Path, options: ShapesOptions, job: tuple[str, int]) -> ShapeClip:
    """Draw and encode one clip: its split and its index in it."""
    split, index = job
    rng = np.random.default_rng([options.seed, SPLITS[split], index])
    subject = _draw_subject(rng, split)
    scenes = options.scenes
    if split == "places":  # a frame is like the next
        scenes = replace(scenes, most_frames=MOST_AT_REST)
    scene = draw_scene(rng, subject, scenes)
    form, quality = draw_format(rng)
    if options.h264_only:
        form, quality = "h264", int(np.clip(quality, *FORMATS["h264"].quality))
    name = f"{_folder(split, index)}/{index:06d}{FORMATS[form].suffix}"
    write_video(output / name, draw_frames(scene), rate=scene.rate, encoding=form, quality=quality)
    if scene.rest_phrases:
        captions = tuple(place_wordings(subject, scene.rest_phrases, scene.sizes))
        return ShapeClip(name, subject, captions, label=captions[0])
    if split == "turns":
        return ShapeClip(name, subject, tuple(turn_wordings(subject)))
    captions = tuple(wordings(subject, scene.sizes, scene.also))
    return ShapeClip(name, subject, captions, tuple(still_wordings(subject, scene.sizes)))


def _draw_subject(rng: np.random.Generator, split: str) -> Subject:
    if split == "places":
        return Subject(str(rng.choice(COLOUR_NAMES)), str(rng.choice(OUTLINES)), REST)
    if split == "unseen":
        subjects = [s for s in all_subjects() if is_held_out(s)]
    else:
        subjects = [s for s in all_subjects() if may_be_trained_on(s)]
    if split == "turns":
        subjects = [s for s in subjects if s.motion in TURNS]
    return subjects[int(rng.integers(len(subjects)))]


def make_new_shapes(
    output: Path, per_shape: int, val_per_shape: int, seed: int, scenes: SceneOptions
) -> None:
    """Make clips of outlines that the demo does not know, any colour, and their tables: train.csv,
    val.csv (path,label) and labels.csv (id,name).
    """
    for number, (split, count) in enumerate((("train", per_shape), ("val", val_per_shape))):
        rows = []
        for index, (outline, turn) in enumerate(product(NEW, range(count))):
            name = f"{split}/{outline}/{turn:03d}.mp4"
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([seed, 4 + number, index])
            subject = Subject(
                str(rng.choice(COLOUR_NAMES)), outline, str(rng.choice(PLAIN_MOTIONS))
            )
            scene = draw_scene(rng, subject, scenes)
            write_video(output / name, draw_frames(scene), rate=scene.rate)
            rows.append((name, f"a {outline}"))
        with (output / f"{split}.csv").open("w", encoding="utf-8", newline="") as stream:
            csv.writer(stream).writerows([("path", "label"), *rows])
    write_labels(output / "labels.csv", [f"a {outline}" for outline in NEW])


def write_table(path: Path, clips: Iterable[ShapeClip]) -> None:
    """Write a table as `model.data` reads it: path, label, captions as a JSON list."""
    _write(path, ((c.path, c.label or plain_label(c.subject), c.captions) for c in clips))


def _write_stills(path: Path, clips: Iterable[ShapeClip]) -> None:
    _write(path, ((clip.path, still_label(clip.subject), clip.stills) for clip in clips))


def _write(path: Path, rows: Iterable[tuple[str, str, tuple[str, ...]]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label", "captions"))
        for name, label, captions in rows:
            writer.writerow((name, label, json.dumps(captions)))


def _unseen_wordings(clips: Sequence[ShapeClip]) -> list[ShapeClip]:
    return [ShapeClip(c.path, c.subject, tuple(held_out_wordings(c.subject))) for c in clips]


def _folder(split: str, index: int) -> str:
    return f"clips/{split}-{index // CLIPS_OF_A_FOLDER:02d}"


class _Drawing(Dataset[ShapeClip]):
    """Clips that are drawn when they are asked for."""

    def __init__(self, output: Path, options: ShapesOptions, jobs: list[tuple[str, int]]) -> None:
        self.output, self.options, self.jobs = output, options, jobs

    def __len__(self) -> int:
        return len(self.jobs)

    def __getitem__(self, index: int) -> ShapeClip:
        return make_clip(self.output, self.options, self.jobs[index])


def _drawn(drawing: _Drawing, workers: int) -> Iterable[ShapeClip]:
    """Draw all of them, in order."""
    config = DataConfig(workers=workers if workers > 1 else 0, prefetch=AHEAD)
    return in_workers(drawing, config)
