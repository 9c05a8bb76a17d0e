"""Combinations kept unseen, and what the phrases promise."""

from __future__ import annotations

from itertools import combinations

import pytest

from model.data.shapes import COLOURS, MOTIONS, OUTLINES, Subject, is_held_out
from model.data.shapes.vocabulary import TURNS, all_subjects, may_be_trained_on
from model.data.shapes.wordings import (
    held_out_wordings,
    plain_label,
    turn_wordings,
    wordings,
)


def test_about_one_combination_in_six_is_kept_unseen() -> None:
    held = [s for s in all_subjects() if is_held_out(s)]
    assert len(all_subjects()) == len(COLOURS) * len(OUTLINES) * len(MOTIONS) == 320
    assert 40 <= len(held) <= 64


def test_every_pair_of_parts_is_seen_in_training() -> None:
    def parts(subject: Subject) -> tuple[str, str, str]:
        return (subject.colour, subject.outline, subject.motion)

    seen = {
        pair for s in all_subjects() if may_be_trained_on(s) for pair in combinations(parts(s), 2)
    }
    assert seen == {pair for s in all_subjects() for pair in combinations(parts(s), 2)}


def test_a_coloured_shape_is_trained_on_turning_both_ways_or_not_at_all() -> None:
    turning = [s for s in all_subjects() if s.motion in TURNS and may_be_trained_on(s)]
    assert {s.motion for s in turning} == set(TURNS)
    for s in turning:
        assert all(Subject(s.colour, s.outline, sense) in turning for sense in TURNS)


def test_plain_labels_are_distinct_and_read_well() -> None:
    labels = [plain_label(s) for s in all_subjects()]
    assert len(set(labels)) == len(labels)
    assert plain_label(Subject("red", "circle", "left")) == "a red circle moving left"
    assert plain_label(Subject("orange", "star", "growing")) == "an orange star growing"


@pytest.mark.parametrize("motion", MOTIONS)
def test_unseen_wordings_are_no_training_wordings_of_anything(motion: str) -> None:
    trained = {text for s in all_subjects() for text in wordings(s, ("small", "large", "big"))}
    unseen = held_out_wordings(Subject("blue", "square", motion))
    assert len(unseen) >= 6
    assert not trained & set(unseen)


def test_a_phrase_is_shared_exactly_by_the_subjects_it_is_true_of() -> None:
    one = set(wordings(Subject("red", "circle", "left")))
    other_colour = set(wordings(Subject("green", "circle", "left")))
    opposite = set(wordings(Subject("red", "circle", "right")))
    assert one & other_colour == {"a circle"} | {t for t in one if t.startswith("something")} | {
        t for t in one if t.startswith("a circle ")
    }
    assert one & opposite == {"a red circle", "a red shape", "a circle"}


def test_both_turns_spin() -> None:
    clockwise = set(wordings(Subject("red", "star", "clockwise")))
    anticlockwise = set(wordings(Subject("red", "star", "anticlockwise")))
    assert {"a red star spinning", "a red star rotating"} <= clockwise & anticlockwise
    assert "a red star rotating clockwise" not in anticlockwise


@pytest.mark.parametrize("sense", ["clockwise", "anticlockwise"])
def test_phrases_of_further_turns_are_training_phrases_that_tell_the_sense(sense: str) -> None:
    texts = turn_wordings(Subject("red", "star", sense))
    other = "anticlockwise" if sense == "clockwise" else "clockwise"
    assert texts[0] == plain_label(Subject("red", "star", sense))
    assert {f"something rotating {sense}", f"a red shape spinning {sense}"} <= set(texts)
    assert set(texts) <= set(wordings(Subject("red", "star", sense)))
    assert not set(texts) & set(wordings(Subject("red", "star", other)))


def test_a_change_of_speed_also_has_a_direction() -> None:
    texts = wordings(Subject("red", "star", "speeding up"), also="left")
    assert "a red star moving left" in texts
    assert "a red star moving left and speeding up" in texts


def test_unseen_wordings_use_only_words_that_training_knows() -> None:
    trained = {w for s in all_subjects() for t in wordings(s) for w in t.split()}
    new = {w for s in all_subjects() for t in held_out_wordings(s) for w in t.split()} - trained
    # The sentences around the phrase may bring small words of their own.
    assert new <= {"this", "here", "clip", "shows", "there", "in", "tinier", "round", "growing"}
