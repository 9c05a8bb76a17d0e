"""From a folder of clips as people have them to a bundle that names them, by one command."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from model.data.errors import DataError
from model.data.lists.labels import read_labels
from model.train.settings import read_config
from tests.model.clip_sets import COLOURS, write_clip
from xclip_serve import Classifier
from xclip_serve.__main__ import main
from xclip_serve.training.estimate import Pace
from xclip_serve.training.folds import cross_validate
from xclip_serve.training.label_meaning import COLOURS as COLOUR_WORDS
from xclip_serve.training.label_meaning import SIDES, naming
from xclip_serve.training.machine import Machine, free_in_groups
from xclip_serve.training.preparation import epochs_within
from xclip_serve.training.settings import (
    Network,
    Set,
    as_values,
    choose,
    evaluations_every,
)

EACH = 6


@pytest.fixture(scope="module")
def mess(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of four labels, one of them under two names, among what else lies in folders."""
    root = tmp_path_factory.mktemp("mess") / "clips"
    for label, colour in COLOURS.items():
        folder = root / label.replace(" ", "_")
        for i in range(EACH):
            write_clip(folder / f"v{'abcdef'[i]}_{'1' if i else '2'}.MP4", colour, seed=i)
    write_clip(root / "Red Clip" / "another.mp4", COLOURS["red clip"], seed=50)
    write_clip(root / "red_clip" / "short.mp4", COLOURS["red clip"], frames=1, seed=51)
    shutil.copy(root / "red_clip" / "vb_1.MP4", root / "red_clip" / "copy of b.mp4")
    shutil.copy(root / "red_clip" / "vc_1.MP4", root / "dark_clip" / "wrong.mp4")
    (root / "red_clip" / "broken.mp4").write_bytes(
        (root / "red_clip" / "vd_1.MP4").read_bytes()[:99]
    )
    (root / "red_clip" / ".hidden.mp4").write_bytes(b"x")
    (root / "red_clip" / "notes.txt").write_text("x")
    (root / ".git").mkdir()
    return root


@pytest.fixture(scope="module")
def trained(mess: Path, start: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a whole run, and what was said."""
    run = tmp_path_factory.mktemp("run") / "colours"
    arguments = ["train", str(mess), "--from", str(start), "--output", str(run)]
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("xclip_serve.verbs.train._say", said.append)
        assert main([*arguments, "--epochs", "40"]) == 0
    return run, "\n".join(said)


def test_what_was_left_out_is_said_with_its_reason(trained: tuple[Path, str]) -> None:
    _, said = trained
    for line in (
        "left out, hidden, or left there by a system (2): .git, red_clip/.hidden.mp4",
        "left out, no known ending of a video (1): red_clip/notes.txt",
        "joined as Red Clip: red_clip",
        "left out, the same clip under several labels (2): ",
        "left out, a copy of another clip (1): ",
        "left out, cannot be decoded",
        "shorter than the frames that are read, some of which repeat (1): red_clip/short.mp4",
        "colours are not changed: labels name colours: Red Clip, blue clip and 1 more",
        "cuts of one video are on one side, told by --group-by stem",
        "two updates took ",
    ):
        assert line in said


def test_the_bundle_names_the_clips_by_the_names_of_their_folders(
    trained: tuple[Path, str], mess: Path
) -> None:
    run, said = trained
    assert said.endswith(f"serve it: {sys.executable} -m xclip_serve serve {run / 'bundle'}")
    labels = read_labels(run / "lists" / "labels.csv")
    assert labels.names == ("Red Clip", "blue_clip", "dark_clip", "green_clip")
    assert labels.texts == ("Red Clip", "blue clip", "dark clip", "green clip")
    with Classifier(run / "bundle", decode_workers=1) as network:
        answers = {
            name: network.classify(mess / name / "ve_1.MP4", label_set="labels")
            for name in ("blue_clip", "green_clip")
        }
    assert {name: answer.predictions[0].label for name, answer in answers.items()} == {
        name: name for name in answers
    }


def test_the_report_is_one_page_with_everything_in_it(trained: tuple[Path, str]) -> None:
    run, _ = trained
    page = (run / "report" / "report.html").read_text()
    assert page.count("data:image/png;base64,") >= 4
    assert "src='http" not in page
    assert "before training" in page
    assert "precision" in page
    report = json.loads((run / "report" / "report.json").read_text())
    assert report["best"]["figure"] == "top1"
    measured = {entry["epoch"]: entry["top1"] for entry in report["accuracy"]}
    assert min(measured) == 0
    assert measured[report["best"]["epoch"]] == max(measured.values()) == report["top1"]
    assert len(list((run / "snapshots").iterdir())) <= 3, "the last two, and the best"


def test_the_same_command_goes_on_and_keeps_texts_that_a_person_wrote(
    trained: tuple[Path, str], mess: Path, start: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run, _ = trained
    assert main(["train", str(mess), "--output", str(run), "--dry-run"]) == 0
    assert f"going on with {run} as {run / 'train.yaml'} says" in capsys.readouterr().err
    fresh = ["train", str(mess), "--from", str(start), "--output", str(tmp_path / "new")]
    file = tmp_path / "new" / "lists" / "labels.csv"
    file.parent.mkdir(parents=True)
    file.write_text("id,name,text\n0,blue_clip,a picture that is blue all over\n")
    assert main([*fresh, "--dry-run", "--minutes", "600"]) == 0
    assert read_labels(file).texts[1] == "a picture that is blue all over"
    assert not (tmp_path / "new" / "snapshots").exists()
    settings = read_config(["--config", str(tmp_path / "new" / "train.yaml")])
    assert settings.save.best == "top1"
    assert settings.augment.jitter == 0
    assert "# labels name colours" in (tmp_path / "new" / "train.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere: there is no such folder or list"),
        ([".", "--from", "nowhere.pth"], "start.source: "),
        ([".", "--labels", "labels.csv"], "belong to lists"),
        (["red_clip/vb_1.MP4"], "red_clip/vb_1.MP4: give the folder, with a folder for each label"),
        ([".", "--group-by", "("], "no regular expression"),
    ],
)
def test_mistakes_are_told_in_a_line(
    mess: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(mess)
    assert main(["train", *arguments, "--output", str(tmp_path / "run")]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("xclip-serve train: ")
    assert said in last


def test_lists_are_taken_as_well(
    mess: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"{label.replace(' ', '_')}/ve_1.MP4,{label}" for label in COLOURS]
    more = [f"{label.replace(' ', '_')}/vf_1.MP4,{label}" for label in COLOURS]
    for name, part in (("train", rows), ("val", more)):
        (tmp_path / f"{name}.csv").write_text("\n".join(["path,label", *part]) + "\n")
    arguments = ["train", str(tmp_path / "train.csv"), "--val", str(tmp_path / "val.csv")]
    places = ["--root", str(mess), "--output", str(tmp_path / "run"), "--from", str(start)]
    assert main([*arguments, *places, "--dry-run"]) == 0
    assert "4 to measure accuracy on; as they are given" in capsys.readouterr().err
    written = (tmp_path / "run" / "lists" / "val.csv").read_text().splitlines()
    assert written == ["path,label", *more]


def test_what_lists_name_and_is_not_there_is_told_with_what_may_be_meant(
    mess: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "list.csv"
    there = [f"{c}_clip\\v{i}_1.MP4,{c}" for c in ("blue", "green") for i in "bcd"]
    rows = ["path,label", *there, "blue_clip/ve_1,blue", "blue_clip/none.mp4,blue"]
    file.write_text("\n".join(rows) + "\n")
    arguments = ["train", str(file), "--root", str(mess), "--from", str(start), "--dry-run"]
    assert main([*arguments, "--output", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().err
    assert "missing (2): blue_clip/ve_1 (did you mean blue_clip/ve_1.MP4?), blue_clip/none" in said
    file.write_text("path,label\nnone.mp4,blue\nno.mp4,green\n")
    assert main([*arguments, "--output", str(tmp_path / "other")]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "two are needed" in last
    assert last.endswith("left out, missing (2): none.mp4, no.mp4")


def test_a_budget_of_time_cuts_the_run(
    mess: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update is said to take a second, measuring nothing."""
    monkeypatch.setattr("xclip_serve.training.preparation.measure", lambda *_: Pace(1, 0, 0, 4, 0))
    run = tmp_path / "run"
    arguments = ["train", str(mess), "--from", str(start), "--output", str(run), "--dry-run"]
    assert main([*arguments, "--epochs", "100", "--minutes", "2"]) == 0
    settings = read_config(["--config", str(run / "train.yaml")])
    assert settings.schedule.epochs == 30
    assert main([*arguments, "--epochs", "100", "--minutes", "7"]) == 0
    assert read_config(["--config", str(run / "train.yaml")]).schedule.epochs == 100
    assert main([*arguments, "--epochs", "100", "--minutes", "8", "--folds", "3"]) == 0
    assert read_config(["--config", str(run / "train.yaml")]).schedule.epochs == 30


def test_what_is_measured_counts_in_a_budget() -> None:
    """Shorter runs are measured after fewer epochs: that alone may be too much."""
    pace = Pace(update_s=1, measured_clip_s=1, saved_s=2, updates_per_epoch=1, clips=10)
    assert pace.seconds(100, evaluations_every(100)) == 100 + 26 * 10 + 25 * 2
    fitting = epochs_within(200, pace, 100)
    assert pace.seconds(fitting, evaluations_every(fitting)) <= 200
    assert epochs_within(1, pace, 100) == 1


def test_folds_hold_back_every_clip_once_and_tell_mean_and_deviation(
    mess: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["train", str(mess), "--from", str(start), "--output", str(run), "--dry-run"]) == 0
    config = read_config(["--config", str(run / "train.yaml"), "--schedule.epochs", "2"])
    capsys.readouterr()
    said: list[str] = []
    cross_validate(run, config, 2, 0, "stem", said.append)
    assert re.fullmatch(r"2 folds: top-1 [\d.]+% ± [\d.]+%, macro accuracy .*", said[-1])
    folds = [next((run / "folds").glob(f"{number}-of-2-*")) for number in (1, 2)]
    held = [(fold / "lists" / "val.csv").read_text().split("\n")[1:-1] for fold in folds]
    lists = [(run / "lists" / f"{n}.csv").read_text().split("\n")[1:-1] for n in ("train", "val")]
    assert sorted(held[0] + held[1]) == sorted(lists[0] + lists[1])
    report = json.loads((folds[0] / "report" / "report.json").read_text())
    assert report["best"] is None, "the clips that it is measured on chose the network"
    with pytest.raises(DataError, match="too few for 9 folds"):
        cross_validate(run, config, 9, 0, "stem", said.append)


def test_words_that_augmentation_must_leave_alone() -> None:
    texts = ["wave the LEFT hand", "lefthand drive", "copyright", "a redder sky", "Red_car", "turn"]
    assert naming(texts, SIDES) == texts[:2]
    assert naming(texts, COLOUR_WORDS) == ["Red_car"]


def settings(machine: Machine, network: Network, clips: Set) -> dict[str, object]:
    from xclip_serve.training.settings import epochs_for, preset_for

    preset = preset_for(network, machine)
    lists = {name: Path(f"{name}.csv") for name in ("train", "val", "labels")}
    epochs = epochs_for(network, clips)
    root, run = Path("clips"), Path("run")
    return as_values(choose(run, lists, root, clips, network, machine, preset, epochs))


@pytest.mark.parametrize("gpu", [False, True])
@pytest.mark.parametrize("width", [128, 768])
@pytest.mark.parametrize(("clips", "labels"), [(4, 2), (200, 10), (30_000, 400)])
def test_every_choice_is_a_configuration_that_holds(
    gpu: bool, width: int, clips: int, labels: int, tmp_path: Path
) -> None:
    machine = Machine(gpu, 2, 8 << 30, 100 << 30)
    texts = tuple(f"action {i}" for i in range(labels))
    size = Set(clips, clips // 4 + 1, texts, (1, 3 * clips // labels))
    chosen = settings(machine, Network("demo", width, 224, 8, 1 << 30), size)
    file = tmp_path / "train.yaml"
    file.write_text(yaml.safe_dump(chosen))
    config = read_config(["--config", str(file)])
    assert config.cache.features == (width == 768 and not gpu)
    assert config.data.balance == "sampler"
    assert config.batch.size <= clips
    at_once = config.batch.per_process or config.batch.size
    assert at_once <= 4 or config.cache.features, "8 GiB are free, and a clip takes one"
    assert config.batch.size % at_once == 0
    assert (config.mixing.probability == 0) == (clips < 2000 or config.cache.features)


def test_memory_that_a_container_may_take_is_what_counts(tmp_path: Path) -> None:
    inner = tmp_path / "pod" / "container"
    inner.mkdir(parents=True)
    for folder, limit in ((inner, "1000"), (inner.parent, "max")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text("700\n")
        (folder / "memory.stat").write_text("anon 500\nactive_file 50\ninactive_file 150\n")
    assert free_in_groups(inner, tmp_path) == [500]
    (inner.parent / "memory.max").write_text("800\n")
    assert free_in_groups(inner, tmp_path) == [500, 300]
    assert free_in_groups(tmp_path / "gone", tmp_path) == []
