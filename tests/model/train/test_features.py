"""Clips encoded once: the same losses and figures as encoding them in every epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from model.train.config import TrainConfig
from model.train.errors import TrainError
from model.train.initial_model import make_initial_model
from model.train.loop import train
from model.train.record import read_metrics
from model.train.settings import read_config
from tests.model.clip_sets import tiny_config, tiny_run
from tests.model.train.processes import command

OFF = {
    "frames": "evenly",
    "scales": [1.0],
    "positions": "centre",
    "flip": 0,
    "jitter": 0,
    "grey": 0,
}
FROZEN = {"vision": "frozen", "augment": OFF, "schedule__epochs": 3, "optim__lr": 3e-3}


def figures(run: Path) -> list[dict[str, float]]:
    times = {"clips_per_s", "data_wait"}
    lines = read_metrics(run / "metrics.jsonl")
    return [{key: value for key, value in line.items() if key not in times} for line in lines]


@pytest.mark.parametrize("text", ["frozen", "trainable"])
def test_losses_and_accuracy_are_those_of_the_ordinary_way(
    clip_set: Path, tmp_path: Path, text: str
) -> None:
    changes = {**FROZEN, "text": text, "evaluate__views": 2}
    train(tiny_config(clip_set, tmp_path / "plain", **changes))
    train(tiny_config(clip_set, tmp_path / "kept", cache__features=True, **changes))
    plain, kept = figures(tmp_path / "plain"), figures(tmp_path / "kept")
    assert len(kept) == len(plain) == 3 * 3 + 4
    for a, b in zip(plain, kept, strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-6)
    assert len({line["loss"] for line in plain if "loss" in line}) == 9


def test_a_network_without_prompts_keeps_frame_features_alone(
    clip_set: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {**FROZEN, "schedule__epochs": 1}
    losses = []
    for features in (False, True):
        config = tiny_run(clip_set, tmp_path / str(features), **changes)
        config["start"]["architecture"]["prompt_layers"] = 0
        config["cache"] = {"features": features}
        train(TrainConfig.model_validate(config))
        losses.append(
            [line["loss"] for line in figures(tmp_path / str(features)) if "loss" in line]
        )
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_a_second_run_encodes_nothing_and_another_tower_all(
    clip_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {
        **FROZEN, "schedule__epochs": 1, "cache__features": True,
        "data__cache__folder": str(tmp_path / "kept"),
    }  # fmt: skip
    train(tiny_config(clip_set, tmp_path / "a", **changes))
    assert "encoding clips: 24 of 24" in capsys.readouterr().err
    train(tiny_config(clip_set, tmp_path / "b", **changes))
    assert "encoding clips" not in capsys.readouterr().err
    train(tiny_config(clip_set, tmp_path / "c", seed=1, **changes))
    assert "encoding clips: 24 of 24" in capsys.readouterr().err
    assert figures(tmp_path / "a") == figures(tmp_path / "b")


def test_broken_clips_are_passed_over_as_ever(clip_set: Path, tmp_path: Path) -> None:
    table = tmp_path / "train.csv"
    table.write_text((clip_set / "train.csv").read_text() + "none.mp4,red clip\n")
    changes = {**FROZEN, "data__train": [str(table)], "data__max_broken_share": 0.05}
    for name, features in (("plain", False), ("kept", True)):
        train(tiny_config(clip_set, tmp_path / name, cache__features=features, **changes))
        listed = (tmp_path / name / "report" / "broken.csv").read_text().splitlines()
        assert listed == ["path,reason", "none.mp4,missing"]
    for a, b in zip(figures(tmp_path / "plain"), figures(tmp_path / "kept"), strict=True):
        assert b == pytest.approx(a, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vision": "trainable"}, "cache.features needs vision: frozen"),
        ({"mixing__probability": 0.5}, "needs mixing.probability: 0"),
        ({"augment__flip": 0.5}, r"needs augment: \{frames: evenly"),
        ({"start__drop_path": 0.1}, "needs start.drop_path: 0"),
    ],
)
def test_what_would_change_it_is_refused(
    clip_set: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    settings = {**FROZEN, "augment": dict(OFF), "cache__features": True, **changes}
    with pytest.raises(TrainError, match=said):
        read_config(command(tiny_run(clip_set, tmp_path / "run", **settings))[3:])


def test_the_patch_context_is_the_same_either_way(clip_set: Path, tmp_path: Path) -> None:
    config = tiny_config(clip_set, tmp_path / "run")
    context = make_initial_model(config.start, 0).net.patch_context
    assert context is not None
    torch.nn.init.normal_(context.ln.weight)
    torch.nn.init.normal_(context.ln.bias)
    patches = torch.randn(2, 4, 9, 64)
    torch.testing.assert_close(context.trained(context.untrained(patches)), context(patches))
