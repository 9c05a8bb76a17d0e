"""The configurations of the demo belong together."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from model.train.config import TrainConfig
from model.train.settings import read_config

CONFIGS = Path(__file__).resolve().parents[4] / "configs"


PARTS = ("demo_clip", "demo_order", "demo_motion", "demo")


def read(name: str) -> TrainConfig:
    return read_config(["--config", str(CONFIGS / f"{name}.yaml")])


@pytest.mark.parametrize("name", PARTS)
def test_nothing_contradicts_the_labels_of_moving_shapes(name: str) -> None:
    config = read(name)
    assert config.augment.flip == config.augment.hue == config.augment.grey == 0
    assert config.mixing.probability == 0
    assert config.text == "trainable"


@pytest.mark.parametrize(("before", "after"), [*pairwise(PARTS)])
def test_each_part_goes_on_where_the_one_before_ended(before: str, after: str) -> None:
    first, second = read(before), read(after)
    assert second.start.source == str(first.output / "checkpoint")
    assert second.data.root == first.data.root
    assert second.data.cache == first.data.cache


def test_frames_come_with_the_integration_transformer() -> None:
    architecture, order = read("demo_clip").start.architecture, read("demo_order")
    assert architecture is not None
    assert architecture.num_frames == 1
    assert order.start.parts is not None
    assert (order.start.frames, order.start.parts.mit_layers, order.vision) == (8, 1, "frozen")
    assert read("demo").vision == "trainable"
