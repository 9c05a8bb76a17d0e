"""A video glued from clips of known shapes: its segments have their labels and borders."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import numpy as np
import pytest

from model.data.shapes.drawing import draw_frames
from model.data.shapes.scene import SceneOptions, draw_scene
from model.data.shapes.vocabulary import Subject
from model.data.shapes.wordings import plain_label
from tests.service.conftest import RunningServer, running

SUBJECTS = (
    Subject("red", "circle", "left"),
    Subject("blue", "square", "right"),
    Subject("green", "triangle", "up"),
    Subject("yellow", "star", "down"),
)
LABELS = [plain_label(subject) for subject in SUBJECTS]
EACH_S, SIDE, STRIDE_S = 4, 96, 1.0
TEN_MINUTES = 600 // EACH_S
# The numbers are of scenes that the network knows, also half of one and half of the next.
CONTAINERS = [("mp4", 20), ("matroska", 1), ("mpegts", 2)]


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running() as started:
        yield started


def glued(container: str, seed: int, order: Sequence[int] = range(len(SUBJECTS))) -> bytes:
    """The shapes one after the other, their frames 30 to 90 milliseconds apart."""
    target = io.BytesIO()
    rng = np.random.default_rng(seed)
    with av.open(target, "w", format=container) as output:
        stream: Any = output.add_stream("libx264", rate=25, options={"bf": "2", "g": "20"})
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for place, index in enumerate(order):
            drawn = np.random.default_rng([seed, index])
            scene = draw_scene(drawn, SUBJECTS[index], SceneOptions((SIDE, SIDE)))
            times = np.cumsum(rng.integers(30, 90, 1000 * EACH_S // 30)) - 30
            times = times[times < 1000 * EACH_S]
            for at, picture in zip(times, draw_frames(scene, times / times[-1]), strict=True):
                top, left = ((side - SIDE) // 2 for side in picture.shape[:2])
                square = np.ascontiguousarray(picture[top : top + SIDE, left : left + SIDE])
                frame = av.VideoFrame.from_ndarray(square)
                frame.pts, frame.time_base = 1000 * EACH_S * place + int(at), Fraction(1, 1000)
                output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return target.getvalue()


@pytest.mark.parametrize(("container", "seed"), CONTAINERS)
def test_segments_have_the_labels_and_borders_of_what_was_glued(
    server: RunningServer, container: str, seed: int
) -> None:
    assert_as_glued(server, container, seed, range(len(SUBJECTS)))


@pytest.mark.long
@pytest.mark.parametrize(("container", "seed"), CONTAINERS)
def test_so_they_have_after_ten_minutes(server: RunningServer, container: str, seed: int) -> None:
    steps = np.random.default_rng(seed).integers(1, len(SUBJECTS), TEN_MINUTES)
    order = np.cumsum(steps) % len(SUBJECTS)  # never twice the same
    assert_as_glued(server, container, seed, [int(index) for index in order])


def assert_as_glued(server: RunningServer, container: str, seed: int, order: Sequence[int]) -> None:
    answer = server.client.post(
        "/v1/timeline",
        files={"video": ("c", glued(container, seed, order))},
        data={"labels": json.dumps(LABELS), "window_s": "2", "stride_s": str(STRIDE_S)},
    ).json()
    assert [segment["label"] for segment in answer["segments"]] == [LABELS[i] for i in order]
    for place, (one, other) in enumerate(pairwise(answer["segments"]), start=1):
        assert one["end_s"] == other["start_s"]
        assert abs(one["end_s"] - EACH_S * place) <= STRIDE_S
    assert answer["segments"][0]["start_s"] == 0
    assert answer["segments"][-1]["end_s"] == answer["windows"][-1]["end_s"]
