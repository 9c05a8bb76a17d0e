"""`batch --engine ray` on one machine: the rows of `batch`, whatever ends an actor."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.ray.conftest import below, listening
from tests.service.conftest import until
from tests.xclip_serve.sixty_clips import COUNT, batch, make_clips, rows, start

pytestmark = pytest.mark.ray

ACTOR = "ray::MapWorker"
RAY = ("--engine", "ray", "--jobs", 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clips(tmp_path_factory.mktemp("ray"))


@pytest.fixture(scope="module")
def whole(folder: Path) -> dict[str, dict[str, Any]]:
    """The table of `batch` in one process."""
    assert batch(folder, "clips", "--output", "whole.parquet")[0] == 3
    return rows(folder / "whole.parquet")


def written(table: Path) -> dict[str, int]:
    """The parts that there are, and when each was written."""
    return {part.name: part.stat().st_mtime_ns for part in table.glob("*.parquet")}


def test_rows_are_those_of_batch_and_a_second_run_asks_nothing(
    folder: Path, whole: dict[str, Any]
) -> None:
    status, said = batch(folder, "clips", *RAY, "--output", "table")
    assert status == 3, said
    assert f"table has {COUNT} clips, 1 of them failed" in said
    assert rows(folder / "table") == whole
    parts = written(folder / "table")
    assert len(parts) > 4
    status, said = batch(folder, "clips", *RAY, "--output", "table")
    assert status == 3, said
    assert "nothing was left to do" in said
    assert written(folder / "table") == parts
    status, said = batch(folder, "clips", "--label", "more", *RAY, "--output", "table")
    assert status == 2
    assert "the question (labels)" in said


def test_an_actor_that_is_killed_changes_no_row(folder: Path, whole: dict[str, Any]) -> None:
    table = folder / "killed-actor"
    asked = ("clips", "--labels", "labels.txt", *RAY, "--output", table)
    with start(folder, *asked) as run:
        until(lambda: bool(written(table)) or run.poll() is not None)
        actor = below(run.pid, ACTOR)[0]
        actor.suspend()  # so that it is killed at work, however fast it is
        assert len(rows(table)) < COUNT
        assert listening(run.pid) <= {"127.0.0.1", "::1"}, "a door to this machine"
        workers = actor.children(recursive=True)
        actor.kill()
        said = run.communicate()[1]
    assert run.returncode == 3, said
    assert rows(table) == whole
    assert not psutil.wait_procs(workers)[1]


def test_a_run_that_is_killed_goes_on(folder: Path, whole: dict[str, Any]) -> None:
    table = folder / "killed-run"
    with start(folder, "clips", "--labels", "labels.txt", *RAY, "--output", table) as run:
        until(lambda: bool(written(table)) or run.poll() is not None)
        actors = below(run.pid, ACTOR)
        for actor in actors:
            actor.suspend()
        run.send_signal(signal.SIGKILL)
        run.communicate()
        for actor in actors:
            with contextlib.suppress(psutil.NoSuchProcess):
                actor.kill()
    before = written(table)
    assert 0 < len(rows(table)) < COUNT
    status, said = batch(folder, "clips", *RAY, "--output", table)
    assert status == 3, said
    assert rows(table) == whole
    assert before.items() <= written(table).items()


def test_a_clip_that_is_missing_is_a_row_of_its_own(folder: Path) -> None:
    (folder / "two.txt").write_text("none.mp4\nclips/01.mp4\n")
    status, said = batch(folder, "two.txt", *RAY, "--output", "two")
    assert status == 3, said
    codes = {path: row["code"] for path, row in rows(folder / "two").items()}
    assert codes == {"none.mp4": "cannot_open", "clips/01.mp4": None}
    status, said = batch(folder, "clips", *RAY[:2], "--jobs", 1000, "--output", "large")
    assert status == 2
    assert "--jobs 1000: the largest machine of the cluster has" in said


def test_what_no_clip_would_be_answered_with_is_told_in_the_last_line(folder: Path) -> None:
    for arguments, told in (
        (("clips", "--views", 1000, "--output", "views"), "views"),
        (("clips", "--model", "labels.txt", "--output", "model"), "labels.txt"),
        (("clips", "--server", "http://127.0.0.1:9", "--output", "server"), "leave --server out"),
        (("clips", "--output", "labels.txt"), "is a file"),
    ):
        status, said = batch(folder, *arguments, *RAY)
        assert status == 2, said
        last = said.splitlines()[-1]  # Ray has its say before
        assert last.startswith("xclip-serve batch: ")
        assert told in last
        assert "Traceback" not in said
