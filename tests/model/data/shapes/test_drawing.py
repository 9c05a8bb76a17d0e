"""What is drawn is what the label says, measured in the pixels."""

from __future__ import annotations

import numpy as np
import pytest

from model.data.shapes import MOTIONS, OUTLINES, SceneOptions, Subject, draw_frames, draw_scene
from model.data.shapes.drawing import _paint
from model.data.shapes.outlines import distance
from model.data.shapes.scene import Figure, Scene, named_colour
from model.data.shapes.tracks import SYMMETRY, draw_motion

ROOM = (0.5, 0.5)


def mask_of(figure: Figure, angle: float = 0.0) -> np.ndarray:
    frame = np.zeros((101, 101, 3), np.uint8)
    _paint(frame, figure, 50.5, 50.5, 30, angle)
    return frame[:, :, 0] > 128


def white(outline: str) -> Figure:
    return Figure(outline, np.full(3, 255, np.float32))


@pytest.mark.parametrize("outline", OUTLINES)
def test_outlines_look_equally_large(outline: str) -> None:
    area = mask_of(white(outline)).sum() / (np.pi * 30**2)
    assert 0.5 < area < 1.1


def test_an_upright_triangle_points_up_and_a_square_lies_on_its_side() -> None:
    triangle, square = mask_of(white("triangle")), mask_of(white("square"))
    assert triangle[30].sum() < triangle[60].sum()
    rows = square.sum(axis=1)
    assert set(rows[rows > 0]) <= {rows.max(), rows.max() - 1}
    assert (square == square.T).all()


@pytest.mark.parametrize("outline", ["square", "triangle", "star"])
def test_outlines_repeat_after_their_symmetry_and_not_before(outline: str) -> None:
    still = mask_of(white(outline))
    assert (still ^ mask_of(white(outline), SYMMETRY[outline])).mean() < 0.005
    assert (still ^ mask_of(white(outline), SYMMETRY[outline] / 2)).mean() > 0.02


def test_positive_angles_turn_clockwise_as_seen() -> None:
    pointer = Figure("circle", np.zeros(3, np.float32), bar=np.full(3, 255, np.float32))
    turned = np.argwhere(mask_of(pointer, np.pi / 2))
    assert turned[:, 1].mean() > 55  # what pointed up points right
    assert abs(turned[:, 0].mean() - 50) < 3


def test_edges_are_smooth_at_any_size() -> None:
    x = np.linspace(-2, 2, 401, dtype=np.float32)[None, :]
    for outline in OUTLINES:
        steps = np.abs(np.diff(distance(outline, x, np.full_like(x, 0.05))))
        assert steps.max() < 0.03


@pytest.mark.parametrize("motion", MOTIONS)
def test_motions_do_what_they_are_called(motion: str) -> None:
    for seed in range(20):
        moves, also = draw_motion(np.random.default_rng(seed), motion, "star", ROOM)
        track = moves.at(np.linspace(0, 1, 9))
        travelled, growth = (
            track.position[-1] - track.position[0],
            track.radius[-1] / track.radius[0],
        )
        turn = track.angle[-1] - track.angle[0]
        speed = np.linalg.norm(np.diff(track.position, axis=0), axis=1)
        checks = {
            "left": travelled[0] < -0.15,
            "right": travelled[0] > 0.15,
            "up": travelled[1] < -0.15,
            "down": travelled[1] > 0.15,
            "growing": growth > 1.7,
            "shrinking": growth < 0.6,
            "clockwise": turn > 0.35,
            "anticlockwise": turn < -0.35,
            "speeding up": speed[-1] > 2 * speed[0],
            "slowing down": speed[-1] < speed[0] / 2,
        }
        assert checks[motion]
        assert (also is not None) == ("ing" in motion and " " in motion)


@pytest.mark.parametrize("outline", OUTLINES)
def test_turns_stay_readable_at_eight_looks(outline: str) -> None:
    for seed in range(50):
        moves, _ = draw_motion(np.random.default_rng(seed), "clockwise", outline, ROOM)
        step = (moves.angles[1] - moves.angles[0]) / 8
        assert 0 < step < SYMMETRY[outline] / 2


@pytest.mark.parametrize("outline", OUTLINES)
def test_most_turns_are_told_by_the_order_of_their_frames_alone(outline: str) -> None:
    """A short turn one way, backwards in time, is one the other way: same frames, other order."""
    ends = {}
    for motion in ("clockwise", "anticlockwise"):
        turns = [
            draw_motion(np.random.default_rng(seed), motion, outline, ROOM)[0].angles
            for seed in range(400)
        ]
        short = [sorted(t) for t in turns if max(map(abs, t)) < SYMMETRY[outline] / 2]
        assert 0.6 < len(short) / len(turns) < 0.85
        ends[motion] = np.mean(short, axis=0) / SYMMETRY[outline]
    assert np.allclose(ends["clockwise"], -ends["anticlockwise"][::-1])
    assert abs(ends["clockwise"].sum()) < 0.1  # as often left of upright as right of it


def scene_of(seed: int, motion: str = "left") -> Scene:
    rng = np.random.default_rng(seed)
    return draw_scene(rng, Subject("red", "circle", motion), SceneOptions(short_side=(64, 96)))


def test_scenes_follow_from_the_seed() -> None:
    first, again, other = (list(draw_frames(scene_of(seed))) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (
        len(first) != len(other)
        or (first[0].shape != other[0].shape)
        or (first[0] != other[0]).any()
    )


def test_frames_have_even_sides_and_the_sizes_asked_for() -> None:
    for seed in range(10):
        scene = scene_of(seed)
        assert 64 <= min(scene.size) <= 96
        assert not any(side % 2 for side in scene.size)
        assert next(draw_frames(scene)).shape == (*scene.size, 3)


def test_a_circle_that_turns_carries_a_mark() -> None:
    assert all(scene_of(seed, "clockwise").figure.bar is not None for seed in range(10))


@pytest.mark.parametrize("name", ["red", "green", "blue"])
def test_named_colours_are_mostly_that_channel(name: str) -> None:
    rng = np.random.default_rng(0)
    channel = ("red", "green", "blue").index(name)
    assert all(int(np.argmax(named_colour(rng, name))) == channel for _ in range(50))
