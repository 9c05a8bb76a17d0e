"""What is asked about clips of moving shapes: a clip, labels to choose from, the right one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from model.data.shapes import COLOURS, MOTIONS, OUTLINES, Subject, plain_label
from model.data.shapes.dataset import ShapeClip
from model.data.shapes.vocabulary import OPPOSITES, all_subjects
from model.data.shapes.wordings import held_out_wordings

LABELS = 24
OPPOSITE = {a: b for pair in OPPOSITES for a, b in (pair, pair[::-1])}


@dataclass(frozen=True)
class Question:
    """A clip, the labels to choose from, and the right one."""

    clip: Path
    labels: tuple[str, ...]
    right: str


def plain(rng: np.random.Generator, path: Path, clip: ShapeClip) -> Question:
    """Return 24 labels as the tables have them."""
    return _question(rng, path, clip.subject, frozenset(clip.captions))


def foreign(rng: np.random.Generator, path: Path, subject: Subject) -> Question:
    """Return 24 labels, none of them about speed."""
    kept = tuple(m for m in MOTIONS if "ing " not in m)  # speeds are no part of its vocabulary
    return _question(rng, path, subject, frozenset(), kept)


def _question(
    rng: np.random.Generator,
    path: Path,
    subject: Subject,
    also_true: frozenset[str],
    motions: tuple[str, ...] = MOTIONS,
) -> Question:
    """Return the right label, its opposite, and others at random that are not true as well."""
    right, opposite = plain_label(subject), plain_label(_opposite(subject))
    pool = [plain_label(s) for s in all_subjects() if s.motion in motions]
    wrong = [p for p in pool if p not in (right, opposite) and p not in also_true]
    drawn = rng.choice(wrong, LABELS - 2, replace=False)
    return Question(path, (right, opposite, *map(str, drawn)), right)


def reworded(rng: np.random.Generator, path: Path, clip: ShapeClip) -> Question:
    """Return the same question with every label in a wording that training never shows."""
    asked = plain(rng, path, clip)
    subjects = {plain_label(s): s for s in all_subjects()}
    worded = {}
    for label in asked.labels:
        choices = held_out_wordings(subjects[label])
        worded[label] = choices[int(rng.integers(len(choices)))]
    return Question(path, tuple(worded.values()), worded[asked.right])


def pair(path: Path, clip: ShapeClip) -> Question:
    """Ask the label against its opposite in time."""
    right = plain_label(clip.subject)
    return Question(path, (right, plain_label(_opposite(clip.subject))), right)


def colour(path: Path, clip: ShapeClip) -> Question:
    """Ask eight colours of some shape."""
    labels = {c: f"{'an' if c[0] in 'aeiou' else 'a'} {c} shape" for c in COLOURS}
    return Question(path, tuple(labels.values()), labels[clip.subject.colour])


def shape(path: Path, clip: ShapeClip) -> Question:
    """Ask four shapes of some colour."""
    labels = {outline: f"a {outline}" for outline in OUTLINES}
    return Question(path, tuple(labels.values()), labels[clip.subject.outline])


def _opposite(subject: Subject) -> Subject:
    return Subject(subject.colour, subject.outline, OPPOSITE[subject.motion])
