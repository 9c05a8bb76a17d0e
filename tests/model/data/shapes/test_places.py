"""Things at rest: where they lie is what their phrases say, and they stay there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model.data.lists.cliplist import read_clips
from model.data.shapes import Subject, draw_scene
from model.data.shapes.__main__ import main
from model.data.shapes.places import NEAR_STAND, place_words
from model.data.shapes.tracks import LEAST_TURNING, SYMMETRY
from model.data.shapes.vocabulary import OUTLINES, REST


@pytest.mark.parametrize("seed", range(20))
def test_a_thing_at_rest_lies_where_its_phrases_say(seed: int) -> None:
    scene = draw_scene(np.random.default_rng(seed), Subject("red", "circle", REST))
    track = scene.motion.at(np.linspace(0, 1, 5))
    assert np.ptp(track.position, axis=0).max() == np.ptp(track.radius) == np.ptp(track.angle) == 0
    x, y = track.position[0]
    said = " ".join(
        words for words in scene.rest_phrases if words.startswith(("in ", "on ", "at "))
    )
    assert ("left" in said) == (x < -0.15)
    assert ("right" in said) == (x > 0.15)
    assert ("top" in said) == (y < -0.15)
    assert ("bottom" in said) == (y > 0.15)
    assert ("middle" in said) == (max(abs(x), abs(y)) < 0.15)


@pytest.mark.parametrize("outline", OUTLINES)
@pytest.mark.parametrize("seed", range(12))
def test_a_thing_at_rest_is_turned_as_its_phrase_says(outline: str, seed: int) -> None:
    scene = draw_scene(np.random.default_rng(seed), Subject("red", outline, REST))
    turned = scene.motion.at(np.zeros(1)).angle[0] / SYMMETRY[outline] % 1
    words = ["upright", "tilted to the right", "upside down", "tilted to the left"]
    words[2] = "standing on its corner" if outline == "square" else words[2]
    quarter = round(4 * turned) % 4
    away = abs((4 * turned - quarter + 2) % 4 - 2) / 4
    # How small things and bare circles are turned cannot be seen.
    seen = scene.motion.radii[0] >= LEAST_TURNING
    seen = seen and (outline != "circle" or scene.figure.bar is not None)
    said = [words[quarter]] if seen and away <= NEAR_STAND else []
    assert [phrase for phrase in scene.rest_phrases if phrase in words] == said


def test_a_corner_is_also_at_both_of_its_sides() -> None:
    assert place_words(1, -1) == ("in the top right corner", "on the right", "at the top")
    assert place_words(0, 1) == ("at the bottom",)


def test_the_table_of_places_reads(tmp_path: Path) -> None:
    counts = ["--clips", "0", "--val-clips", "0", "--unseen-clips", "0", "--place-clips", "3"]
    assert main([str(tmp_path), *counts, "--largest", "64", "--workers", "1"]) == 0
    clips = read_clips([tmp_path / "places.csv"], tmp_path)
    assert len(clips) == 3
    for sample in clips.samples:
        own = [clips.wordings[i] for i in sample.wordings]
        assert own[0] == clips.labels.names[sample.label]
        assert any(text.startswith("something ") for text in own), json.dumps(own)
