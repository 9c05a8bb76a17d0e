"""A network trained with a template reads labels through it wherever it goes from there."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from export.bundle import open_bundle
from export.cli import main as export
from model.checkpoint import read_checkpoint
from model.data.shapes.dataset import make_new_shapes
from model.data.shapes.scene import SceneOptions
from model.evaluate.__main__ import main as evaluate
from model.train.config import TrainConfig
from model.train.errors import TrainError
from model.train.loop import train
from tests.conftest import ROOT
from tests.model.clip_sets import COLOURS, tiny_config
from tests.service.conftest import RunningServer, running

TEMPLATE = "not red, not blue: {} it is"


@pytest.fixture(scope="module")
def checkpoint(clip_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that knows colours, each only in the middle of the template."""
    folder = tmp_path_factory.mktemp("template") / "run"
    train(tiny_config(clip_set, folder, data__template=TEMPLATE, schedule__epochs=8))
    return folder / "checkpoint"


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a bundle with its labels stored, the template never named again."""
    labels = tmp_path_factory.mktemp("labels") / "colours.csv"
    labels.write_text("id,name\n" + "".join(f"{i},{name}\n" for i, name in enumerate(COLOURS)))
    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    assert export([str(checkpoint), "--output", str(folder), "--labels", str(labels)]) == 0
    return folder


def measured(clip_set: Path, file: Path, *arguments: str, root: str = "clips") -> dict[str, Any]:
    lists = ("--list", str(clip_set / "val.csv"), "--root", str(clip_set / root))
    command = [*arguments, "--protocol", "few-shot", "--workers", "0", "--json", str(file), *lists]
    assert evaluate(command) == 0
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_checkpoint_bundle_and_training_agree(
    clip_set: Path, checkpoint: Path, bundle: Path, tmp_path: Path
) -> None:
    report = json.loads((checkpoint.parent / "report" / "report.json").read_text())
    ours = measured(clip_set, tmp_path / "a.json", str(checkpoint))
    theirs = measured(clip_set, tmp_path / "b.json", "--bundle", str(bundle))
    assert report["top1"] == 1.0
    assert ours["figures"] == theirs["figures"] == {"top1": 100.0, "top5": 100.0}
    assert ours["templates"] == theirs["templates"] == [TEMPLATE]
    bare = measured(clip_set, tmp_path / "c.json", str(checkpoint), "--template", "{}")
    assert bare["templates"] == []


def test_the_service_reads_labels_as_training_did(clip_set: Path, bundle: Path) -> None:
    """As a stored list, and as labels that come with the request: the template is not named."""
    names = list(COLOURS)
    with running(bundle=bundle) as server:
        assert right_answers(server, clip_set, label_set="colours") == 8
        assert right_answers(server, clip_set, labels=names) == 8
        video = (clip_set / "clips" / "red clip 6.mp4").read_bytes()
        given, named, bare = (
            server.classify(video, labels=names, **more).json()["predictions"]
            for more in ({}, {"template": TEMPLATE}, {"template": "{}"})
        )
    assert given == named
    assert given != bare


def right_answers(server: RunningServer, clip_set: Path, root: str = "clips", **fields: Any) -> int:
    """How many clips of val.csv are named rightly."""
    right = 0
    with (clip_set / "val.csv").open(newline="") as stream:
        for row in csv.DictReader(stream):
            video = (clip_set / root / row["path"]).read_bytes()
            answer = server.classify(video, **fields).json()
            right += answer["predictions"][0]["label"] == row["label"]
    return right


@pytest.mark.long
def test_moving_shapes_are_told_equally_well_everywhere(tmp_path: Path) -> None:
    """The demo learns new shapes with a template: nobody names it again, nobody sees less."""
    shapes, run, served = tmp_path / "shapes", tmp_path / "run", tmp_path / "bundle"
    make_new_shapes(shapes, 2, 4, 0, SceneOptions(short_side=(64, 96)))
    settings = yaml.safe_load((ROOT / "configs" / "few_shot_shapes.yaml").read_text())
    settings["output"] = str(run)
    settings["start"]["source"] = str(ROOT / "model" / "demo")
    settings["data"] = {
        "root": str(shapes), "labels": str(shapes / "labels.csv"), "workers": 0,
        "train": [str(shapes / "train.csv")], "val": [str(shapes / "val.csv")],
        "template": "neither a circle nor a square: {} it is",
    }  # fmt: skip
    settings["schedule"] |= {"epochs": 20, "warmup_epochs": 1}
    settings["batch"]["size"] = 10
    train(TrainConfig.model_validate(settings))
    labels = ("--labels", str(shapes / "labels.csv"))
    once = ("--views", "1", "--crops", "1", *labels)
    checkpoint = str(run / "checkpoint")
    assert export([checkpoint, "--output", str(served), *labels]) == 0
    told = json.loads((run / "report" / "report.json").read_text())["top1"]
    ours = measured(shapes, tmp_path / "a.json", checkpoint, *once, root=".")
    theirs = measured(shapes, tmp_path / "b.json", "--bundle", str(served), *once, root=".")
    with (shapes / "labels.csv").open(newline="") as stream:
        names = [row["name"] for row in csv.DictReader(stream)]
    with running(bundle=served) as server:
        by_list = right_answers(server, shapes, ".", label_set="labels")
        by_labels = right_answers(server, shapes, ".", labels=names)
        bare = right_answers(server, shapes, ".", labels=names, template="{}")
    clips = 4 * len(names)
    assert ours["figures"] == theirs["figures"]
    assert [by_list, by_labels] == [round(ours["figures"]["top1"] * clips / 100)] * 2
    assert by_list == round(told * clips)
    assert by_list > clips / len(names)  # better than chance, and than bare labels
    assert by_list > bare


def test_a_stored_list_says_what_it_was_read_as(checkpoint: Path, bundle: Path) -> None:
    opened = open_bundle(bundle)
    stored = opened.label_set("colours")
    assert opened.manifest.templates == stored.templates == (TEMPLATE,)
    assert stored.prompts == tuple(TEMPLATE.replace("{}", name) for name in COLOURS)
    filled, bare = (read_as(checkpoint, texts) for texts in (stored.prompts, stored.labels))
    np.testing.assert_allclose(stored.vectors, filled, atol=1e-5)
    assert np.abs(filled - bare).max() > 0.1


def read_as(checkpoint: Path, texts: Sequence[str]) -> np.ndarray:
    """Vectors of these very texts, one by one."""
    found = read_checkpoint(checkpoint)
    assert found.tokenizer is not None
    ids = [torch.from_numpy(found.tokenizer.encode([text])) for text in texts]
    with torch.no_grad():
        return torch.cat([found.net.encode_text(row) for row in ids]).numpy()


def test_export_takes_others_and_the_mean_of_several(
    clip_set: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "two.csv"
    labels.write_text("id,name\n0,red clip\n1,blue clip\n")
    output = ["--output", str(tmp_path / "bundle"), "--labels", str(labels)]
    assert export([str(checkpoint), *output, "--template", "{}", "--template", "a {}"]) == 0
    assert export(["inspect", str(tmp_path / "bundle")]) == 0
    assert "{}, a {}" in capsys.readouterr().out
    opened = open_bundle(tmp_path / "bundle")
    stored = opened.label_set("two")
    assert opened.manifest.templates == ("{}", "a {}")
    assert stored.prompts == ("red clip", "a red clip", "blue clip", "a blue clip")
    assert stored.vectors.shape == (2, 64)
    assert export([str(checkpoint), "--output", str(tmp_path / "x"), "--template", "none"]) == 1
    assert "exactly one {}" in capsys.readouterr().err


def test_training_goes_on_with_the_template_of_the_start(
    clip_set: Path, checkpoint: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"start": {"source": str(checkpoint)}, "schedule__epochs": 1}
    train(tiny_config(clip_set, tmp_path / "same", **changes))
    assert read_checkpoint(tmp_path / "same" / "checkpoint").templates == (TEMPLATE,)
    train(tiny_config(clip_set, tmp_path / "bare", **changes, data__template="{}"))
    assert read_checkpoint(tmp_path / "bare" / "checkpoint").templates == ()


def test_a_start_with_several_templates_is_asked_for_one(
    clip_set: Path, checkpoint: Path, tmp_path: Path
) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    several = tmp_path / "several"
    several.mkdir()
    for file in checkpoint.iterdir():
        (several / file.name).write_bytes(file.read_bytes())
    (several / "config.json").write_text(json.dumps({**config, "templates": ["a {}", "b {}"]}))
    with pytest.raises(TrainError, match=r"2 templates, a training has one: set data\.template"):
        train(tiny_config(clip_set, tmp_path / "run", start={"source": str(several)}))


def test_a_checkpoint_from_before_there_were_templates_loads(
    checkpoint: Path, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for file in checkpoint.iterdir():
        (old / file.name).write_bytes(file.read_bytes())
    config = json.loads((old / "config.json").read_text())
    del config["templates"]
    (old / "config.json").write_text(json.dumps(config))
    assert read_checkpoint(old).templates == ()
