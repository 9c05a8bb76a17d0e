"""Configurations: a file, the command line over it, and one line about each mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.command_line import sleep_while_waiting
from model.network.config import VARIANTS
from model.train.config import TrainConfig
from model.train.errors import TrainError
from model.train.settings import read_config
from tests.model.train.processes import ROOT


def written(folder: Path, **more: Any) -> list[str]:
    content = {"output": "runs/x", "start": {"source": "some.pth"}, **more}
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(content))
    return ["--config", str(file)]


def test_file_then_command_line_then_defaults(tmp_path: Path) -> None:
    arguments = written(tmp_path, optim={"lr": 1e-5, "weight_decay": 0.1})
    config = read_config([*arguments, "--optim.lr", "2e-6", "--schedule.epochs=3"])
    assert config.optim.lr == 2e-6
    assert config.optim.weight_decay == 0.1
    assert config.optim.eps == TrainConfig.model_fields["optim"].default.eps
    assert config.schedule.epochs == 3


def test_values_of_every_kind_on_the_command_line(tmp_path: Path) -> None:
    config = read_config(
        [
            *written(tmp_path),
            *("--data.train", "a.csv,b c.csv", "--augment.scales", "[1.0, 0.5]"),
            *("--compute.compile", "true", "--compute.precision", "bf16"),
            *("--data.cache.folder", "/tmp/x", "--text", "trainable"),
        ]
    )
    assert config.data.train == (Path("a.csv"), Path("b c.csv"))
    assert config.augment.scales == (1.0, 0.5)
    assert config.compute.compile
    assert config.data.cache.folder == Path("/tmp/x")


def test_null_unsets_what_the_file_sets(tmp_path: Path) -> None:
    more = {"data": {"labels": "labels.csv"}, "optim": {"clip_norm": 1.0}}
    arguments = written(tmp_path, **more)
    config = read_config([*arguments, "--data.labels", "null", "--optim.clip_norm=null"])
    assert config.data.labels is None
    assert config.optim.clip_norm is None
    assert read_config(arguments).data.labels == Path("labels.csv")


def test_a_whole_run_may_stand_on_the_command_line() -> None:
    config = read_config(["--output", "x", "--start.architecture", "tiny", "--data.train", "a.csv"])
    assert config.start.architecture == VARIANTS["tiny"]


def test_a_variant_by_name_and_an_architecture_by_its_sizes(tmp_path: Path) -> None:
    start = {"architecture": {"vision_layers": 3}, "tokenizer_merges": 100}
    config = read_config([*written(tmp_path, start=start), "--start.architecture.patch_size", "16"])
    assert config.start.architecture is not None
    assert (config.start.architecture.vision_layers, config.start.architecture.patch_size) == (
        3,
        16,
    )


def test_it_is_frozen(tmp_path: Path) -> None:
    config = read_config(written(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        config.optim.lr = 1.0  # type: ignore[misc]


def test_the_environment_has_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEED", "7")
    monkeypatch.setenv("OUTPUT", "elsewhere")
    config = read_config(written(tmp_path))
    assert (config.seed, config.output) == (
        TrainConfig.model_fields["seed"].default,
        Path("runs/x"),
    )


@pytest.mark.parametrize(
    ("more", "arguments", "said"),
    [
        ({"optimm": {"lr": 1}}, [], "unknown key optimm: did you mean optim?"),
        ({"optim": {"lrr": 1}}, [], "unknown key optim.lrr: did you mean optim.lr?"),
        ({}, ["--optim.learning_rate", "1"], "unknown option --optim.learning_rate"),
        ({"optim": {"lr": "fast"}}, [], "optim.lr: .*not 'fast'"),
        ({}, ["--batch.size", "3.5"], "batch.size: .*not '3.5'"),
        ({}, ["--batch.size", "0"], "batch.size: .*greater than 0, not '0'"),
        ({"text": "thawed"}, [], "text: .*'frozen' or 'trainable', not 'thawed'"),
        ({"start": {}}, [], "start: set either start.source or start.architecture"),
        ({"start": {"architecture": "huge"}}, [], "no variant 'huge'; there are: xclip"),
        ({"augment": {"hue": 0.7}}, [], "augment.hue: .*0.5, not 0.7"),
        ({"save": {"keep": 1}}, [], "save.keep: .*2, not 1"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(
    tmp_path: Path, more: dict[str, Any], arguments: list[str], said: str
) -> None:
    with pytest.raises(TrainError, match=said) as refused:
        read_config([*written(tmp_path, **more), *arguments])
    assert "\n" not in str(refused.value)


def test_no_configuration_no_file_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="--config FILE"):
        read_config([])
    with pytest.raises(TrainError, match=r"nothere\.yaml does not exist"):
        read_config(["--config", "nothere.yaml"])
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    with pytest.raises(TrainError, match="must be a mapping"):
        read_config(["--config", str(tmp_path / "list.yaml")])
    (tmp_path / "torn.yaml").write_text("a: [1,\nb: }")
    with pytest.raises(TrainError, match=r"torn\.yaml: ") as refused:
        read_config(["--config", str(tmp_path / "torn.yaml")])
    assert "\n" not in str(refused.value)
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(TrainError, match="must be a mapping"):
        read_config(["--config", str(tmp_path / "empty.yaml")])


def test_a_required_key_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text("start: {source: x.pth}\n")
    with pytest.raises(TrainError, match=r"output is missing: set it .* --output"):
        read_config(["--config", str(tmp_path / "run.yaml")])


def test_help_names_every_key_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        read_config(["--help"])
    assert stopped.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    for key in ("--config", "--optim.lr", "--data.cache.folder", "--mixing.cutmix_share"):
        assert key in shown
    assert "the cosine counts from the start of training" in shown


def test_waiting_threads_sleep_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    sleep_while_waiting()
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    sleep_while_waiting()
    assert os.environ["OMP_WAIT_POLICY"] == "active"


def test_the_command_says_so_before_torch_is_there(tmp_path: Path) -> None:
    code = (
        "import os, sys\n"
        "from model.train.__main__ import main\n"
        "assert 'torch' not in sys.modules\n"
        f"main({written(tmp_path)!r})\n"
        "assert 'torch' in sys.modules and os.environ['OMP_WAIT_POLICY'] == 'passive'\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP", "GOMP"))}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, cwd=ROOT)
