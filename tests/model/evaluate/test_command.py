"""The command: protocols on a real checkpoint and on the bundle made of it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import model.data.frames.reading
from model.checkpoints.native import save_checkpoint
from model.evaluate.__main__ import main
from model.inputs import Clip, Tokenizer, decode_clip
from model.network.config import VARIANTS, ModelConfig
from model.network.initialise import build_xclip
from tests.model.clip_sets import write_table
from tests.open_clip_folders import open_clip_folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network with a vocabulary of its own."""
    tokenizer = Tokenizer.truncated(300)
    config = ModelConfig(
        image_size=48, patch_size=16, num_frames=4, vision_width=64, vision_layers=1,
        embed_dim=64, text_width=64, text_layers=1, vocab_size=tokenizer.vocab_size,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("checkpoint") / "net"
    return save_checkpoint(build_xclip(config, seed=0), folder, tokenizer=tokenizer, name="tiny")


@pytest.fixture(scope="module")
def bundle(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a bundle, made by the command that people use."""
    from export.cli import main as export

    folder = tmp_path_factory.mktemp("bundle") / "bundle"
    assert export([str(checkpoint), "--output", str(folder)]) == 0
    return folder


def measured(clip_set: Path, tmp_path: Path, *arguments: str) -> dict[str, Any]:
    file = tmp_path / "figures.json"
    lists = () if "--list" in arguments else ("--list", str(clip_set / "val.csv"))
    places = ("--root", str(clip_set / "clips"), "--workers", "0", "--json", str(file))
    assert main([*arguments, *lists, *places]) == 0
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def test_a_bundle_is_as_accurate_as_its_checkpoint(
    clip_set: Path, tmp_path: Path, checkpoint: Path, bundle: Path
) -> None:
    options = ("--protocol", "supervised")
    ours = measured(clip_set, tmp_path, str(checkpoint), *options)
    runtime = ("--runtime", "onnxruntime-cpu")
    theirs = measured(clip_set, tmp_path, "--bundle", str(bundle), *runtime, *options)
    assert ours["figures"] == theirs["figures"]
    assert ours["parts"] == theirs["parts"]
    assert (ours["views"], ours["crops"]) == (4, 3)
    (part,) = ours["parts"]
    assert part["right"] == round(part["clips"] * part["top1"] / 100)
    assert theirs["networks"] == ["tiny (onnxruntime-cpu, fp32)"]


def test_a_network_of_open_clip_is_measured_as_it_is(clip_set: Path, tmp_path: Path) -> None:
    source = f"local-dir:{open_clip_folder('clip', tmp_path / 'clip')}"
    found = measured(clip_set, tmp_path, source, "--protocol", "supervised")
    assert found["networks"] == ["clip"]
    assert found["templates"] == ["a video of {}."]
    (part,) = found["parts"]
    assert part["clips"] == 8


def test_a_bundle_of_a_network_of_the_paper_stands_beside_its_figure(
    clip_set: Path, tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The variant is all that says so: written as `export` does for such a network."""
    published = tmp_path / "published"
    shutil.copytree(bundle, published)
    manifest = json.loads((published / "bundle.json").read_text())
    assert manifest["variant"] == "width 64/16, 48 pixels, 4 frames"
    manifest["variant"] = VARIANTS["xclip-base-patch32"].variant
    (published / "bundle.json").write_text(json.dumps(manifest))
    options = ("--protocol", "supervised", "--dataset", "k400")
    found = measured(clip_set, tmp_path, "--bundle", str(published), *options)
    assert found["paper"] == {"top1": 80.4, "top5": 95.0}
    assert "80.4" in capsys.readouterr().out


def test_the_frame_rule_is_taken_and_told(
    clip_set: Path, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def noted(*arguments: Any, **options: Any) -> Clip:
        asked.append(options["frame_rule"])
        return decode_clip(*arguments, **options)

    monkeypatch.setattr(model.data.frames.reading, "decode_clip", noted)
    options = (str(checkpoint), "--protocol", "few-shot")
    plain = measured(clip_set, tmp_path, *options)
    assert (plain["frame_rule"], set(asked)) == ("exact", {"exact"})
    asked.clear()
    keyed = measured(clip_set, tmp_path, *options, "--frame-rule", "keyframes")
    assert (keyed["frame_rule"], set(asked)) == ("keyframes", {"keyframes"})


def test_every_clip_and_every_class_by_itself(
    clip_set: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [(f"{c} clip 6.mp4", f"{c} clip") for c in ("red", "blue", "dark")]
    table = write_table(tmp_path / "val.csv", [*rows, ("none.mp4", "red clip")])
    options = ("--protocol", "few-shot", "--max-broken", "0.5", "--list", str(table))
    files = (tmp_path / "clips.csv", tmp_path / "clips.json")
    for file in files:
        found = measured(clip_set, tmp_path, str(checkpoint), *options, "--output", str(file))
    (part,) = found["parts"]
    clips = json.loads(files[1].read_text())
    assert [clip["path"] for clip in clips] == [row[0] for row in rows] + ["none.mp4"]
    assert [clip["error"] for clip in clips] == [None, None, None, "missing"]
    right = [clip["predicted"] == clip["label"] for clip in clips]
    assert sum(right) == part["right"] == sum(c["right"] for c in part["per_class"])
    assert right[:3] == [clip["rank"] == 1 for clip in clips[:3]]
    assert all(0 < clip["label_score"] <= clip["score"] <= 1 for clip in clips[:3])
    assert {c["label"]: c["clips"] for c in part["per_class"]} == dict.fromkeys(
        ("red clip", "blue clip", "dark clip"), 1
    )
    with files[0].open(newline="") as stream:
        table_rows = list(csv.DictReader(stream))
    assert [row["predicted"] for row in table_rows] == [c["predicted"] or "" for c in clips]
    assert ("hardest: " in capsys.readouterr().out) == (part["right"] < 3)


def test_zero_shot_over_splits_with_their_own_labels(
    clip_set: Path, tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    splits = []
    for colours in (("red", "blue"), ("green", "dark", "blue")):
        rows = [(f"{c} clip 6.mp4", f"{c} clip") for c in colours]
        splits.append(str(write_table(tmp_path / f"{len(colours)}.csv", rows)))
    found = measured(
        clip_set, tmp_path, str(checkpoint), "--protocol", "zero-shot", "--list", *splits
    )
    parts = found["parts"]
    assert isinstance(parts, list)
    assert [(p["labels"], p["clips"], p["broken"]) for p in parts] == [(2, 2, 0), (3, 3, 0)]
    figures = found["figures"]
    assert isinstance(figures, dict)
    assert figures["mean"] == pytest.approx((parts[0]["top1"] + parts[1]["top1"]) / 2)
    assert "zero-shot" in capsys.readouterr().out


def test_base_to_novel_of_two_seeds(clip_set: Path, tmp_path: Path, checkpoint: Path) -> None:
    halves = []
    for name, colours in (("base", ("red", "blue")), ("novel", ("green", "dark"))):
        rows = [(f"{c} clip 6.mp4", f"{c} clip") for c in colours]
        halves.append(str(write_table(tmp_path / f"{name}.csv", rows)))
    arguments = ("--protocol", "base-to-novel", "--dataset", "ucf101", "--list", *halves)
    found = measured(clip_set, tmp_path, str(checkpoint), str(checkpoint), *arguments)
    assert set(found["figures"]) == {"base", "novel", "harmonic"}
    assert len(found["parts"]) == 4
    assert found["paper"] == {}  # another network than the paper's


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--protocol", "supervised"], "give either a CHECKPOINT or --bundle DIR"),
        (["CHECKPOINT", "--bundle", "x", "--protocol", "supervised"], "give either a CHECKPOINT"),
        (["nothere.pth", "--protocol", "supervised"], "nothere.pth is no checkpoint"),
        (["--bundle", "nowhere", "--protocol", "supervised"], "nowhere"),
        (["--bundle", "x", "--frames", "4", "--protocol", "few-shot"], "--frames is for checkp"),
        (["CHECKPOINT", "--precision", "int8", "--protocol", "few-shot"], "fp32, bf16 or fp16"),
        (["CHECKPOINT", "CHECKPOINT", "--protocol", "few-shot"], "one checkpoint at a time"),
        (["CHECKPOINT", "--protocol", "base-to-novel"], "--list BASE NOVEL"),
        (["CHECKPOINT", "--protocol", "few-shot", "--labels", "a", "b"], "2 label files for 1"),
        (["CHECKPOINT", "--protocol", "few-shot", "--root", "nowhere"], "nowhere is neither"),
    ],
)
def test_mistakes_are_one_line(
    clip_set: Path,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    given = [str(checkpoint) if word == "CHECKPOINT" else word for word in arguments]
    assert main([*given, "--list", str(clip_set / "val.csv")]) == 1
    shown = capsys.readouterr().err
    assert said in shown
    assert shown.count("\n") == 1


def test_an_unknown_protocol_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["x", "--protocol", "guessing", "--list", "y"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value"),
    [("--batch", "0"), ("--views", "0"), ("--workers", "-2"), ("--json", "none/x.json")],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["x", "--protocol", "few-shot", "--list", "y", option, value])
    assert stopped.value.code == 2
    assert f"model.evaluate: argument {option}: " in capsys.readouterr().err
