"""Runs that are killed, whose disk fills up, whose snapshots rot, whose loss explodes.

The processes are real: each run is started as a person starts it.
"""

from __future__ import annotations

import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from model import load_checkpoint
from model.train.__main__ import main
from model.train.record import read_metrics
from tests.model.clip_sets import tiny_run
from tests.model.train.processes import ROOT, command, environment, finished, stopped_after

UPDATES = 18
# Everything that draws random numbers is on.
EVERYTHING = {
    "schedule__epochs": 6,
    "mixing__probability": 1,
    "start__drop_path": 0.2,
    "augment__jitter_by": "frame",
    "augment__grey": 0.2,
    "data__workers": 1,
    "log__every_updates": 1,
    "save__every_updates": 4,
    "evaluate__every_epochs": 3,
}


def figures(folder: Path) -> list[dict[str, Any]]:
    """All metrics but those that measure time."""
    return [
        {key: value for key, value in line.items() if key not in ("clips_per_s", "data_wait")}
        for line in read_metrics(folder / "metrics.jsonl")
    ]


def same_weights(one: Path, other: Path) -> bool:
    a, b = (load_checkpoint(folder / "checkpoint").state_dict() for folder in (one, other))
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def unbroken(clip_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("crashes") / "unbroken"
    run = finished(command(tiny_run(clip_set, folder, **EVERYTHING)))
    assert run.returncode == 0, run.stderr
    assert updates_of(folder) == UPDATES
    return folder


@pytest.mark.parametrize("kill_after", [3, 10])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    clip_set: Path, unbroken: Path, tmp_path: Path, kill_after: int
) -> None:
    """Before its first snapshot, and between two of them."""
    folder = tmp_path / "killed"
    arguments = command(tiny_run(clip_set, folder, **EVERYTHING))
    status, _ = stopped_after(arguments, kill_after, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert not (folder / "checkpoint").exists()
    again = finished(arguments)
    assert again.returncode == 0, again.stderr
    assert ("going on after update" in again.stderr) == (kill_after > 4)
    assert figures(folder) == figures(unbroken)
    assert same_weights(folder, unbroken)


def asked_to_stop(
    arguments: list[str], folder: Path, update: int, number: int, *, group: bool
) -> None:
    """Send a run the signal after this update: it saves what it has done, and says so."""
    status, said = stopped_after(arguments, update, number, group=group)
    assert status == 130
    assert "Traceback" not in said
    assert "saved; the same command goes on from there" in said
    newest = max(snapshot.name for snapshot in (folder / "snapshots").iterdir())
    assert newest == f"update-{updates_of(folder):09d}"


def updates_of(folder: Path) -> int:
    return len([line for line in figures(folder) if "loss" in line])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_asked_to_stop_with_its_group_it_saves_first(
    clip_set: Path, tmp_path: Path, number: int
) -> None:
    arguments = command(tiny_run(clip_set, tmp_path / "run", **EVERYTHING))
    asked_to_stop(arguments, tmp_path / "run", 5, number, group=True)


@pytest.fixture(scope="module")
def stopped(clip_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was asked to stop, it alone."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    arguments = command(tiny_run(clip_set, folder, **EVERYTHING))
    asked_to_stop(arguments, folder, 5, signal.SIGTERM, group=False)
    return folder


def test_asked_to_stop_it_goes_on_from_there(
    clip_set: Path, unbroken: Path, stopped: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(stopped, tmp_path / "stopped")
    again = finished(command(tiny_run(clip_set, folder, **EVERYTHING)))
    assert f"going on after update {updates_of(stopped)}," in again.stderr
    assert figures(folder) == figures(unbroken)
    assert same_weights(folder, unbroken)


def test_a_rotten_last_snapshot_costs_the_way_from_the_one_before(
    clip_set: Path, unbroken: Path, stopped: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(stopped, tmp_path / "rotten")
    before, newest = sorted((folder / "snapshots").iterdir())
    last = newest / "training.pt"
    content = bytearray(last.read_bytes())
    content[1000] ^= 0xFF
    last.write_bytes(bytes(content))
    again = finished(command(tiny_run(clip_set, folder, **EVERYTHING)))
    assert f"snapshot {last.parent} is damaged" in again.stderr
    assert f"going on after update {int(before.name.split('-')[1])}," in again.stderr
    assert figures(folder) == figures(unbroken)
    assert same_weights(folder, unbroken)


@pytest.fixture
def small_disk(unbroken: Path, tmp_path: Path) -> Iterator[Path]:
    """A disk on which two snapshots of the tiny network fit, but not three."""
    snapshot = sorted((unbroken / "snapshots").iterdir())[-1]
    size = sum(file.stat().st_size for file in snapshot.iterdir())
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size * 5 // 2}", "tmpfs", str(place)],
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_stops_the_run_with_the_last_snapshot_intact(
    clip_set: Path, unbroken: Path, small_disk: Path, tmp_path: Path
) -> None:
    folder = small_disk / "run"
    config = tiny_run(clip_set, folder, **EVERYTHING)
    arguments = command(config)
    full = finished(arguments)
    assert full.returncode == 1
    last = full.stderr.splitlines()[-1]
    assert last.startswith("model.train: the snapshot of update 6 cannot be written")
    assert "No space left" in last
    assert "the last good one is" in last
    assert "update-000000004: free some space" in last
    assert "Traceback" not in full.stderr
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    again = finished(arguments)
    assert "going on after update 4," in again.stderr, again.stderr
    assert figures(folder) == figures(unbroken)
    assert same_weights(folder, unbroken)


def test_a_file_that_may_not_grow_stops_the_run_as_well(clip_set: Path, tmp_path: Path) -> None:
    """Where no small disk can be had: the system refuses every file over 3 MB."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 << 20, 3 << 20))

    folder = tmp_path / "limited"
    config = tiny_run(clip_set, folder, schedule__epochs=1, data__val=[])
    run = finished(command(config), limit)
    assert run.returncode == 1
    assert "cannot be written" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert list((folder / "snapshots").iterdir()) == []


def test_metrics_that_cannot_be_written_stop_the_run_as_well(
    clip_set: Path, tmp_path: Path
) -> None:
    """A snapshot fits, the lines of all updates do not."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))

    folder = tmp_path / "limited"
    run = finished(command(tiny_run(clip_set, folder, schedule__epochs=20, data__val=[],
                                    save__every_epochs=20)), limit)  # fmt: skip
    assert run.returncode == 1
    assert "limited cannot be written (File too large)" in run.stderr.splitlines()[-1]
    assert "give the same command again" in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr


def test_a_damaged_copy_of_the_configuration_does_not_matter(
    clip_set: Path, unbroken: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unbroken, folder)
    (folder / "config.yaml").write_text("")
    other = tiny_run(clip_set, folder, **{**EVERYTHING, "optim__lr": 5e-4})
    assert main(command(other)[3:]) == 1
    assert "holds a run with optim.lr 0.001" in capsys.readouterr().err
    (folder / "config.yaml").write_text("output: [")
    assert main(command(tiny_run(clip_set, folder, **EVERYTHING))[3:]) == 0
    assert "epochs: 6" in (folder / "config.yaml").read_text()


def test_the_decoding_processes_of_a_killed_run_end_by_themselves(
    clip_set: Path, tmp_path: Path
) -> None:
    arguments = command(tiny_run(clip_set, tmp_path / "run", **{**EVERYTHING, "data__workers": 2}))
    with subprocess.Popen(
        arguments, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = next((line for line in process.stderr if line.startswith("update 2/")), "")
        tasks = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        workers = [Path(f"/proc/{child}") for child in tasks.read_text().split()]
        process.kill()
    assert said
    assert len(workers) >= 2
    while any(map(_runs, workers)):  # torch's workers look for their parent every five seconds
        time.sleep(0.2)


def _runs(process: Path) -> bool:
    """Whether it is there and not merely waiting to be fetched by its parent."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_loss_that_is_not_finite_stops_before_the_update_and_names_the_clips(
    clip_set: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "exploding"
    tiny_run(clip_set, folder)
    config = tiny_run(
        clip_set, folder, optim__lr=1e30, save__every_updates=1, schedule__warmup_epochs=0
    )
    status = main(command(config)[3:])
    last = capsys.readouterr().err.splitlines()[-1]
    assert status == 1
    assert "is not finite, the weights stay as they were before it" in last
    losses = [line["loss"] for line in figures(folder) if "loss" in line]
    assert f"in update {len(losses)} " in last
    if "the loss" in last:
        assert last.count(".mp4") == 8


def test_another_configuration_does_not_go_on_with_a_run(
    clip_set: Path, unbroken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_run(clip_set, unbroken, **{**EVERYTHING, "optim__lr": 5e-4})
    assert main(command(config)[3:]) == 1
    said = capsys.readouterr().err
    assert "holds a run with optim.lr 0.001, now it is 0.0005: give another --output" in said
    assert said.count("\n") == 1


def test_a_finished_run_is_not_trained_any_further(
    clip_set: Path, unbroken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = figures(unbroken)
    assert main(command(tiny_run(clip_set, unbroken, **EVERYTHING))[3:]) == 0
    assert "going on after update 18," in capsys.readouterr().err
    assert figures(unbroken) == before
