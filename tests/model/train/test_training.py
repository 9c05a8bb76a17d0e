"""Whole runs of a tiny network: it learns, and every way of computing it gives the same losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model import load_checkpoint
from model.checkpoint import read_checkpoint, save_checkpoint
from model.network.mit import MultiframeIntegration
from model.network.xclip import XClip
from model.train.config import StartConfig
from model.train.initial_model import make_initial_model
from model.train.loop import train
from model.train.record import read_metrics
from tests.model.clip_sets import tiny_config, tiny_run, write_table


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(folder / "metrics.jsonl") if "loss" in line]


def trained(clips: Path, output: Path, **changes: Any) -> list[float]:
    train(tiny_config(clips, output, **changes))
    return losses(output)


@pytest.fixture(scope="module")
def run(clip_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of eight epochs that saw every colour often enough."""
    folder = tmp_path_factory.mktemp("training") / "run"
    train(tiny_config(clip_set, folder, schedule__epochs=8, log__tensorboard=True, name="colours"))
    return folder


def test_it_learns(run: Path) -> None:
    found = losses(run)
    assert len(found) == 8 * 3
    assert np.mean(found[-3:]) < 0.6 * found[0]
    report = json.loads((run / "report" / "report.json").read_text())
    assert (report["clips"], report["top1"], report["updates"]) == (8, 1.0, 24)
    assert set(report["per_class"]) == {"red clip", "green clip", "blue clip", "dark clip"}


def test_the_checkpoint_is_a_native_one_with_its_own_tokenizer(run: Path) -> None:
    found = read_checkpoint(run / "checkpoint")
    assert (found.name, found.source, found.trained) == ("colours", "trained from scratch", True)
    assert found.tokenizer is not None
    last = sorted((run / "snapshots").iterdir())[-1]
    one, other = load_checkpoint(run / "checkpoint"), load_checkpoint(last)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_what_a_person_gets_to_see(run: Path) -> None:
    for name in ("curves", "confusion", "confused"):
        with Image.open(run / "report" / f"{name}.png") as picture:
            assert min(picture.size) > 100
    lines = read_metrics(run / "metrics.jsonl")
    assert {"loss", "lr", "grad_norm", "clips_per_s", "data_wait", "epoch"} <= lines[1].keys()
    measured = [line["update"] for line in lines if "val_top1" in line]
    assert measured == [-1, *range(2, 24, 3)]
    assert list((run / "tensorboard").glob("events.*"))
    assert (run / "report" / "broken.csv").read_text().strip() == "path,reason"


def test_the_report_has_the_accuracy_of_every_epoch_from_the_start_on(run: Path) -> None:
    report = json.loads((run / "report" / "report.json").read_text())
    epochs = report["accuracy"]
    assert [entry["epoch"] for entry in epochs] == list(range(9))
    assert [entry["update"] for entry in epochs] == list(range(0, 25, 3))
    assert epochs[0]["top1"] < epochs[-1]["top1"] == report["top1"]
    assert report["warnings"] == []


def test_a_run_that_does_not_move_says_so(
    clip_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tiny_config(clip_set, tmp_path / "still", optim__lr=1e-30, schedule__epochs=4))
    said = capsys.readouterr().err
    assert "before the first update: top-1 " in said
    assert "warning: training did not move: the loss was " in said
    assert "optim.lr (1e-30)" in said
    report = json.loads((tmp_path / "still" / "report" / "report.json").read_text())
    assert report["warnings"][0].startswith("training did not move")


def test_tensorboard_has_the_same_figures(run: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [e.value for e in events.Scalars("loss")] == pytest.approx(losses(run), rel=1e-5)


def test_the_whole_configuration_stands_beside_the_run(run: Path) -> None:
    from model.train.settings import read_config

    config = read_config(["--config", str(run / "config.yaml")])
    assert config.schedule.epochs == 8
    assert config.optim.eps == 1e-8


def test_the_same_seed_gives_the_same_losses_and_another_one_others(
    clip_set: Path, tmp_path: Path
) -> None:
    changes = {"schedule__epochs": 1, "data__val": [], "mixing__probability": 1}
    first = trained(clip_set, tmp_path / "a", **changes)
    assert trained(clip_set, tmp_path / "b", **changes) == first
    assert trained(clip_set, tmp_path / "c", seed=1, **changes) != first


def test_accumulated_cached_recomputed_and_plain_updates_are_the_same(
    clip_set: Path, tmp_path: Path
) -> None:
    changes = {"schedule__epochs": 1, "data__val": [], "mixing__probability": 1, "mixing__group": 4}
    plain = trained(clip_set, tmp_path / "a", **changes)
    accumulated = trained(clip_set, tmp_path / "b", batch__per_process=4, **changes)
    assert accumulated == pytest.approx(plain, rel=1e-5)
    recomputed = trained(clip_set, tmp_path / "c", compute__checkpoint_segments=2, **changes)
    assert recomputed == pytest.approx(plain, rel=1e-6)
    folder = str(tmp_path / "cache")
    cached = [
        trained(clip_set, tmp_path / name, data__cache__folder=folder, **changes) for name in "de"
    ]
    assert cached == [plain, plain]


def test_half_precision_stays_near(clip_set: Path, tmp_path: Path) -> None:
    changes = {"schedule__epochs": 1, "data__val": []}
    plain = trained(clip_set, tmp_path / "a", **changes)
    half = trained(clip_set, tmp_path / "b", compute__precision="bf16", **changes)
    assert half == pytest.approx(plain, abs=0.1)
    assert half != plain


def test_frozen_text_stays_as_it_was_and_the_rest_moves(clip_set: Path, tmp_path: Path) -> None:
    config = tiny_config(clip_set, tmp_path / "a", text="frozen", schedule__epochs=1)
    train(config)
    before = make_initial_model(config.start, config.seed).net.state_dict()
    after = load_checkpoint(tmp_path / "a" / "checkpoint").state_dict()
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {n for n in before if n.startswith("text.")} | {"logit_scale"}


def test_captions_of_the_batch_are_learnt_too(clip_set: Path, tmp_path: Path) -> None:
    rows = [
        (f"{colour} clip {i}.mp4", colour, json.dumps([f"a {colour} clip", f"it is {colour}"]))
        for colour in ("red", "green", "blue", "dark")
        for i in range(6)
    ]
    table = write_table(tmp_path / "train.csv", rows, ("path", "label", "captions"))
    val = [(f"{colour} clip 7.mp4", colour) for colour in ("red", "green", "blue", "dark")]
    changes = {
        "data__train": [str(table)],
        "data__val": [str(write_table(tmp_path / "val.csv", val))],
        "data__template": "it is {}",
        "loss__over": "captions",
        "loss__smoothing": 0,
        "schedule__epochs": 8,
    }
    found = trained(clip_set, tmp_path / "a", **changes)
    assert np.mean(found[-3:]) < 0.6 * np.mean(found[:3])
    report = json.loads((tmp_path / "a" / "report" / "report.json").read_text())
    assert report["top1"] >= 0.75


def test_going_on_from_a_network_with_another_number_of_frames_says_so(
    run: Path, clip_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start = {"source": str(run / "checkpoint"), "frames": 6}
    config = {**tiny_run(clip_set, tmp_path / "a", schedule__epochs=1), "start": start}
    from model.train.config import TrainConfig

    train(TrainConfig.model_validate(config))
    assert "time table resampled from 4 to 6 frames" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "a" / "checkpoint").config.num_frames == 6
    assert losses(tmp_path / "a")[0] < losses(run)[0]


def test_broken_clips_are_passed_over_counted_and_listed(
    clip_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "train.csv"
    table.write_text((clip_set / "train.csv").read_text() + "none.mp4,red clip\n")
    changes = {
        "data__train": [str(table)],
        "data__max_broken_share": 0.05,
        "schedule__epochs": 2,
    }
    found = trained(clip_set, tmp_path / "a", **changes)
    assert len(found) == 6
    listed = (tmp_path / "a" / "report" / "broken.csv").read_text().splitlines()
    assert listed == ["path,reason", "none.mp4,missing"]
    assert "1 training clips could not be decoded" in capsys.readouterr().err


def test_parts_of_the_start_come_go_and_keep_what_is_there(run: Path, tmp_path: Path) -> None:
    source = str(run / "checkpoint")
    bare = {"mit_layers": 0, "prompt_layers": 0, "cross_frame_messages": False}
    without = make_initial_model(
        StartConfig.model_validate({"source": source, "parts": bare}), 0
    ).net
    save_checkpoint(without, tmp_path / "bare", tokenizer=None, name="bare", source="a test")
    again = {**bare, "mit_layers": 1, "time_table_std": 1.0}
    config = {"source": str(tmp_path / "bare"), "parts": again}
    fresh = make_initial_model(StartConfig.model_validate(config), 0).net
    assert 0.8 < time_table(fresh).std() < 1.2
    kept = make_initial_model(StartConfig.model_validate({"source": source, "parts": again}), 0).net
    assert torch.equal(time_table(kept), time_table(load_checkpoint(source)))


def time_table(net: XClip) -> torch.Tensor:
    assert isinstance(net.mit, MultiframeIntegration)
    return net.mit.positional_embedding


def test_a_table_of_sines_tells_every_place_from_scratch(tmp_path: Path) -> None:
    config = {"architecture": "tiny", "tokenizer_merges": 512, "position_table": "sines"}
    net = make_initial_model(StartConfig.model_validate(config), 0).net
    side = net.config.image_size // net.config.patch_size
    table = net.visual.positional_embedding[1:].detach()
    rows, columns = table.reshape(side, side, 2, -1).unbind(2)
    assert torch.allclose(rows, rows[:, :1].expand_as(rows))
    assert torch.allclose(columns, columns[:1].expand_as(columns))
    # As unlike as they are far apart, in both directions.
    apart = (rows[0, 0] - rows[:, 0]).norm(dim=1)
    assert torch.equal(apart.argsort(), torch.arange(side))
    assert torch.equal(rows[:, 0], columns[0])
    with pytest.raises(ValueError, match="position_table belong to a start from scratch"):
        StartConfig(source="somewhere", position_table="sines")


def test_frozen_vision_stays_as_it_was(clip_set: Path, tmp_path: Path) -> None:
    config = tiny_config(clip_set, tmp_path / "a", vision="frozen", schedule__epochs=1)
    train(config)
    before = make_initial_model(config.start, config.seed).net.state_dict()
    after = load_checkpoint(tmp_path / "a" / "checkpoint").state_dict()
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("visual.")} <= still
    assert "mit.positional_embedding" not in still
