"""`python -m model.convert`: what it prints, what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.lib.layouts import to_official
from model import conversion, convert
from model.checkpoint import Checkpoint, load_checkpoint, read_checkpoint
from model.network.config import VARIANTS
from model.network.initialise import build_xclip
from model.network.xclip import XClip
from tests.model.conftest import SMALL, same_weights

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def source(small_net: XClip, tmp_path: Path) -> Path:
    """An official file of the small network; square brackets are markup to a careless printer."""
    torch.save(to_official(small_net), tmp_path / "k400[red].pth")
    return tmp_path / "k400[red].pth"


def test_it_writes_a_checkpoint_and_says_what_it_found(
    source: Path, small_net: XClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert convert.main([str(source), "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    millions = f"{sum(p.numel() for p in small_net.parameters()) / 1e6:.1f} million"
    for found in ("4 frames of 48 × 48", "2 heads", "quick_gelu", millions, "k400[red]"):
        assert found in said
    read = read_checkpoint(tmp_path / "out")
    assert same_weights(read.net, small_net)
    assert (read.name, read.source, read.trained) == ("k400[red]", str(source), True)


def test_published_architectures_are_recognised(capsys: pytest.CaptureFixture[str]) -> None:
    with torch.device("meta"):
        net = build_xclip(VARIANTS["xclip-large-patch14"])
    rows = conversion.describe(Checkpoint(net, "n", "s"))
    assert "xclip-large-patch14" in [str(cell) for cell in rows.columns[1].cells]


def test_an_existing_folder_needs_overwrite(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(source), "--output", str(tmp_path / "out")]
    assert convert.main(arguments) == 0
    assert convert.main(arguments) == 1
    assert "exists and is not empty" in capsys.readouterr().err
    assert convert.main([*arguments, "--overwrite", "--name", "mine", "--frames", "8"]) == 0
    assert "time table resampled from 4 to 8" in capsys.readouterr().out
    assert load_checkpoint(tmp_path / "out").config.num_frames == 8


def test_mistakes_are_one_line_each(
    source: Path, small_net: XClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = build_xclip(SMALL, seed=0)
    with torch.no_grad():
        broken.visual.proj[0, 0] = float("nan")
    torch.save(to_official(broken), tmp_path / "nan.pth")
    state = to_official(small_net)["model"]
    torch.save({k: v for k, v in state.items() if "resblocks" not in k}, tmp_path / "half.pth")
    (tmp_path / "empty").mkdir()
    mistakes = {
        ("nowhere", "out"): "nowhere is no checkpoint",
        (str(tmp_path / "empty"), "out"): "has no config.json",
        (str(tmp_path / "nan.pth"), "out"): "visual.proj has values that are not finite",
        (str(tmp_path / "half.pth"), "out"): "more",
        (str(source), "nan.pth"): "nan.pth is no folder",
        (str(source), "nan.pth/below"): "nan.pth is no folder",
        (str(source), "out", "--frames", "0"): "--frames must be 1 or more",
    }
    for (what, output, *options), message in mistakes.items():
        assert convert.main([what, "--output", str(tmp_path / output), *options]) == 1
        said = capsys.readouterr()
        assert message in said.err
        assert said.err.count("\n") == 1
        assert len(said.err) < 1500
        assert said.out == ""
    assert not (tmp_path / "out").exists()


def test_the_command_runs_as_a_module(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "model.convert", str(tmp_path), "--output", "x"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 1
    assert "Traceback" not in run.stderr
