"""The two configurations of the demo belong together."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.train.settings import read_config

CONFIGS = Path(__file__).resolve().parents[4] / "configs"


@pytest.mark.parametrize("name", ["demo_clip.yaml", "demo.yaml"])
def test_nothing_contradicts_the_labels_of_moving_shapes(name):
    config = read_config(["--config", str(CONFIGS / name)])
    assert config.augment.flip == config.augment.hue == config.augment.grey == 0
    assert config.mixing.probability == 0
    assert config.text == "trainable"
    assert config.loss.over == "captions"


def test_the_second_half_goes_on_where_the_first_ended():
    first = read_config(["--config", str(CONFIGS / "demo_clip.yaml")])
    second = read_config(["--config", str(CONFIGS / "demo.yaml")])
    assert second.start.source == str(first.output / "checkpoint")
    assert second.data.root == first.data.root
    assert second.data.cache == first.data.cache
    assert (first.start.architecture.num_frames, second.start.frames) == (1, 8)
