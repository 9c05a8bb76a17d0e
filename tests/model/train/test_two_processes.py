"""Two processes under torch's own launcher do what one does."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from model import load_checkpoint
from model.train.loop import train
from model.train.record import read_metrics
from tests.model.clip_sets import tiny_config, tiny_run, write_table
from tests.model.train.processes import ROOT, command, environment, finished, stopped_after


@pytest.fixture(scope="module")
def odd_val(clip_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven clips, which two processes cannot share equally, and one that is not there."""
    rows = [(f"{c} clip {i}.mp4", f"{c} clip") for c in ("red", "green", "blue") for i in (6, 7)]
    rows += [("dark clip 6.mp4", "dark clip"), ("none.mp4", "dark clip")]
    return write_table(tmp_path_factory.mktemp("odd") / "val.csv", rows)


def ran(clip_set: Path, folder: Path, **changes: Any) -> list[dict[str, Any]]:
    """The metrics of a run of two processes."""
    run = finished(command(tiny_run(clip_set, folder, **changes), 2))
    assert run.returncode == 0, run.stderr
    return read_metrics(folder / "metrics.jsonl")


@pytest.mark.parametrize("over", ["labels", "captions"])
def test_losses_and_accuracy_are_those_of_one_process(
    clip_set: Path, odd_val: Path, tmp_path: Path, over: str
) -> None:
    changes = {
        "mixing__probability": 1,
        "mixing__group": 4,
        "loss__over": over,
        "data__val": [str(odd_val)],
        "data__max_broken_share": 0.2,
        "schedule__epochs": 3,
    }
    train(tiny_config(clip_set, tmp_path / "one", **changes))
    one = read_metrics(tmp_path / "one" / "metrics.jsonl")
    two = ran(clip_set, tmp_path / "two", **changes)
    assert [line["update"] for line in one] == [line["update"] for line in two]
    for a, b in zip(one, two, strict=True):
        for key in a.keys() - {"clips_per_s", "data_wait"}:
            assert b[key] == pytest.approx(a[key], rel=2e-4, abs=1e-6), (key, a, b)
    assert (tmp_path / "two" / "report" / "confusion.png").exists()
    import json

    report = json.loads((tmp_path / "two" / "report" / "report.json").read_text())
    assert report["clips"] == 7
    assert [broken["path"] for broken in report["broken"]] == ["none.mp4"]


def test_broken_clips_of_all_processes_are_listed(clip_set: Path, tmp_path: Path) -> None:
    table = tmp_path / "train.csv"
    missing = [f"none {i}.mp4" for i in range(8)]
    rows = "".join(f"{name},red clip\n" for name in missing)
    table.write_text((clip_set / "train.csv").read_text() + rows)
    folder = tmp_path / "run"
    changes = {
        "data__train": [str(table)],
        "data__val": [],
        "data__max_broken_share": 0.5,
        "batch__size": 32,
        "schedule__epochs": 1,
    }
    ran(clip_set, folder, **changes)
    listed = (folder / "report" / "broken.csv").read_text().splitlines()[1:]
    assert listed == [f"{name},missing" for name in missing]


def test_a_mistake_is_said_once(clip_set: Path, tmp_path: Path) -> None:
    config = tiny_run(clip_set, tmp_path / "run", optim__lr=1e30, schedule__warmup_epochs=0)
    run = finished(command(config, 2))
    assert run.returncode != 0
    said = [line for line in run.stderr.splitlines() if line.startswith("model.train:")]
    assert len(said) == 1
    assert "is not finite" in said[0]


# What a run is where the second process has memory for no more than two clips at a time.
LIMITED = """
import os, sys, torch
from model.train.__main__ import main
from model.train.objective import Comparison
forward, calls = Comparison.forward, []
def limited(self, frames, text):
    calls.append(len(frames))
    if os.environ["RANK"] == "1" and len(frames) > 2 and len(calls) > 1:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB")
    return forward(self, frames, text)
Comparison.forward = limited
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("over", ["labels", "captions"])
def test_where_memory_of_one_does_not_suffice_all_take_fewer_clips_at_a_time(
    clip_set: Path, tmp_path: Path, over: str
) -> None:
    """Over captions processes tell each other theirs in the middle of an update."""
    changes = {"data__val": [], "loss__over": over, "batch__size": 24, "batch__per_process": 6}
    program = tmp_path / "limited.py"
    program.write_text(LIMITED)
    arguments = command(tiny_run(clip_set, tmp_path / "run", **changes), 2)
    run = finished([*arguments[:-4], str(program), *arguments[-2:]])
    assert run.returncode == 0, run.stderr
    assert "does not suffice for 6 clips at a time: going on with 3, 24 for" in run.stderr
    assert "does not suffice for 3 clips at a time: going on with 1, 24 for" in run.stderr
    if over == "labels":
        train(tiny_config(clip_set, tmp_path / "calm", **changes))
        assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "calm"), rel=2e-4)


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(folder / "metrics.jsonl") if "loss" in line]


LASTING = {"schedule__epochs": 5, "save__every_updates": 2, "log__every_updates": 1}
SHARED = {"mixing__probability": 1, "mixing__group": 4, "data__val": []}


@pytest.mark.long
def test_a_run_of_two_processes_goes_on_as_one_of_one(clip_set: Path, tmp_path: Path) -> None:
    one = tiny_run(clip_set, tmp_path / "one", **LASTING, **SHARED)
    assert finished(command(one)).returncode == 0
    changing = tiny_run(clip_set, tmp_path / "changing", **LASTING, **SHARED)
    stopped_after(command(changing, 2), 7, signal.SIGTERM)
    again = finished(command(changing, 1))
    assert "going on after update" in again.stderr, again.stderr
    assert losses(tmp_path / "changing") == pytest.approx(losses(tmp_path / "one"), rel=2e-4)


@pytest.mark.long
def test_under_elastic_torchrun_processes_may_be_killed_in_turn(
    clip_set: Path, tmp_path: Path
) -> None:
    calm = tiny_run(clip_set, tmp_path / "calm", **LASTING, **SHARED)
    assert finished(command(calm, 2)).returncode == 0
    troubled = tiny_run(clip_set, tmp_path / "troubled", **LASTING, **SHARED)
    arguments = command(troubled, 2)
    arguments[3:3] = ["--max-restarts", "3"]
    pending = {4: 0, 9: 1}  # after which update which of the two is killed
    with subprocess.Popen(
        arguments, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            for update in [u for u in pending if line.startswith(f"update {u}/")]:
                os.kill(_children(process.pid)[pending.pop(update)], signal.SIGKILL)
    assert process.returncode == 0, said
    assert not pending
    assert said.count("going on after update") >= 2
    assert losses(tmp_path / "troubled") == losses(tmp_path / "calm")
    one, other = (load_checkpoint(tmp_path / n / "checkpoint") for n in ("calm", "troubled"))
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def _children(process: int) -> list[int]:
    """The processes of the run, in the order of their ranks."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return sorted(int(child) for child in children)
