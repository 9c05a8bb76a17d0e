"""Batches are fitted to lists that are smaller than one, and said so."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.data.frames.order import Plan
from model.train.small_sets import fit_batch
from tests.model.clip_sets import tiny_config


@pytest.mark.parametrize(
    ("size", "micro", "clips", "processes", "fitted"),
    [
        (32, 8, 100, 1, (32, 8)),
        (32, None, 100, 2, (32, None)),
        (32, 8, 16, 1, (16, 8)),
        (32, 8, 14, 1, (8, 8)),
        (32, 8, 5, 1, (5, 5)),
        (32, None, 5, 1, (5, None)),
        (256, 8, 30, 2, (16, 8)),
        (256, 8, 3, 2, (2, 1)),
        (7, 8, 100, 1, (7, 7)),  # only the size was set: the other follows
        (32, 12, 100, 1, (32, 8)),
    ],
)
def test_size_follows_the_clips_and_micro_batches_the_size(
    tmp_path: Path,
    size: int,
    micro: int | None,
    clips: int,
    processes: int,
    fitted: tuple[int, int | None],
) -> None:
    config = tiny_config(tmp_path, tmp_path, batch__size=size, batch__per_process=micro)
    found, line = fit_batch(config, clips, processes)
    assert (found.batch.size, found.batch.per_process) == fitted
    assert (line is None) == (fitted == (size, micro))
    Plan(clips, found.batch.size, found.batch.per_process or 1, processes, 0)
    if line is not None:
        assert line.startswith(f"{clips} clips to train on: batch.")
        assert fit_batch(found, clips, processes) == (found, None)


def test_fewer_clips_than_processes_stay_a_mistake(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, tmp_path, batch__size=32)
    assert fit_batch(config, 1, 2) == (config, None)
