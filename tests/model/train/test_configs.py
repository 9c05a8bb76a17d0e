"""The shipped configurations say what the paper's settings are."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.train.config import TrainConfig
from model.train.settings import read_config

FOLDER = Path(__file__).resolve().parents[3] / "configs"
OWN = {
    "demo", "demo_clip", "demo_motion", "demo_order", "few_shot_shapes", "finetune",
}  # not from the paper  # fmt: skip
GPUS = 8  # of the released commands
# name: frames, per GPU, accumulated, epochs, base rate, CLIP that it starts from
FULL = (30, 8e-6)
B32, B16 = "ViT-B-32-quickgelu/openai", "ViT-B-16-quickgelu/openai"
L14, L14_336 = "ViT-L-14-quickgelu/openai", "ViT-L-14-336-quickgelu/openai"
PUBLISHED = {
    "k400_b32_8f": (8, 8, 4, *FULL, B32),
    "k400_b32_16f": (16, 8, 4, *FULL, B32),
    "k400_b16_8f": (8, 8, 4, *FULL, B16),
    "k400_b16_16f": (16, 4, 8, *FULL, B16),
    "k400_b16_32f": (32, 4, 8, *FULL, B16),
    "k400_l14_8f": (8, 4, 8, *FULL, L14),
    "k400_l14_336_16f": (16, 1, 32, *FULL, L14_336),
    "k600_b16_8f": (8, 8, 4, *FULL, B16),
    "k600_b16_16f": (16, 4, 8, *FULL, B16),
    "k600_l14_8f": (8, 4, 8, *FULL, L14),
    "zero_shot_k400_b16_32f": (32, 4, 8, 10, 8e-6, B16),
    **{
        f"few_shot_{data}_{shots}": (32, 4, 2, 50, 2e-6, B16)
        for data in ("hmdb51", "ucf101")
        for shots in (2, 4, 8, 16)
    },
    **{
        f"base_to_novel_{data}": (32, 4, 2, 11, 2e-6, B16)
        for data in ("k400", "hmdb51", "ucf101", "ssv2")
    },
}


def read(name: str) -> TrainConfig:
    return read_config(["--config", str(FOLDER / f"{name}.yaml")])


def test_there_is_one_for_every_published_setting() -> None:
    assert {file.stem for file in FOLDER.glob("*.yaml")} - OWN == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_settings_are_the_published_ones(name: str) -> None:
    frames, per_gpu, accumulated, epochs, lr, clip = PUBLISHED[name]
    config = read(name)
    assert config.start.frames == frames
    assert config.start.source == f"open_clip:{clip}"
    assert config.batch.per_process == per_gpu
    assert config.batch.size == per_gpu * accumulated * GPUS
    assert (config.schedule.epochs, config.schedule.warmup_epochs) == (epochs, 5)
    assert config.schedule.form == "published"
    assert config.optim.lr == lr
    assert config.augment.jitter_by == "frame"
    assert config.compute.checkpoint_segments == (3 if "336" in name else 0)
    assert config.text == "frozen"
    assert config.data.template is None


def test_what_the_settings_share_is_the_default() -> None:
    config = read("k400_b32_8f")
    assert (config.optim.betas, config.optim.eps) == ((0.9, 0.98), 1e-8)
    assert (config.optim.weight_decay, config.optim.clip_norm) == (1e-3, None)
    assert config.optim.new_parts_factor == 10
    assert config.schedule.min_factor == 0.01
    assert config.loss.smoothing == 0.1
    assert (config.mixing.probability, config.mixing.cutmix_share) == (1, 0.5)
    assert (config.mixing.mixup_alpha, config.mixing.cutmix_alpha) == (0.8, 1)
    assert (config.mixing.group, config.seed) == (None, 1024)


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) | {"finetune"}))
def test_each_opens_with_its_command_hardware_and_figure(name: str) -> None:
    opening = (FOLDER / f"{name}.yaml").read_text().split("\noutput:")[0]
    assert f"model.train --config configs/{name}.yaml" in opening
    assert "Hardware:" in opening
    assert "Published" in opening
    assert all(line.startswith("#") or not line for line in opening.splitlines())


@pytest.mark.parametrize("name", sorted(OWN))
def test_the_others_are_valid(name: str) -> None:
    assert read(name).output
