"""Decoding workers: they need no /dev/shm, and none ends without the run's hearing why."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from model.data.check.check import check
from model.data.config import AugmentConfig, DataConfig
from model.data.errors import DataError
from model.data.frames.cache import WholeClips, cached_frames
from model.data.frames.loading import (
    evaluation_clips,
    in_workers,
    training_batches,
    worker_deaths_told,
)
from model.data.frames.order import Plan
from model.data.frames.reading import TestClips, TrainingClips
from model.data.lists.cliplist import ClipList, Sample, read_clips
from model.data.lists.labels import LabelList
from model.inputs import InputSpec, Tokenizer
from tests.model.clip_sets import write_table

SPEC = InputSpec.official(4, 48)
WORKERS = DataConfig(workers=2, prefetch=1)


class Files:
    """In place of clips something happens to the process that opens them."""

    def __init__(self, happens: Callable[[], None]) -> None:
        self.happens = happens

    def open(self, name: str) -> BinaryIO:
        self.happens()
        raise AssertionError(name)

    def holds(self, name: str) -> bool:
        return True

    def version(self, name: str) -> str:
        return name


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ended() -> None:
    os._exit(3)


def out_of_memory() -> None:
    raise MemoryError


def clips_where(happens: Callable[[], None]) -> ClipList:
    samples = tuple(Sample(f"{i}.mp4", 0, (0,)) for i in range(8))
    return ClipList(samples, LabelList(("wave",)), ("wave",), Files(happens))


def trained_on(clips: ClipList, _folder: Path) -> Iterator[Any]:
    source = TrainingClips(clips, SPEC, AugmentConfig())
    return training_batches(source, Plan(8, 4, 4, 1, 0), 0, 0, 2, WORKERS)


def measured_on(clips: ClipList, _folder: Path) -> Iterator[Any]:
    return evaluation_clips(TestClips(clips, SPEC), range(8), WORKERS)


def checked(clips: ClipList, _folder: Path) -> list[Any]:
    return [check(clips, None, SPEC, Tokenizer.clip(), WORKERS, lambda: None)]


def cached(clips: ClipList, folder: Path) -> list[Any]:
    return [cached_frames(WholeClips(clips, SPEC, 4), folder, WORKERS, lambda: None)]


@pytest.mark.parametrize("use", [trained_on, measured_on, checked, cached])
@pytest.mark.parametrize(
    ("happens", "said"),
    [
        (killed, r"a decoding worker is gone \(Killed\): if memory is short, set a lower data"),
        (ended, r"a decoding worker is gone \(it ended by itself\)"),
        (out_of_memory, r"there is not enough memory to decode: set a lower data\.workers"),
    ],
)
def test_a_worker_that_ends_ends_the_run_with_its_reason(
    use: Callable[[ClipList, Path], Any], happens: Callable[[], None], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said), worker_deaths_told():
        list(use(clips_where(happens), tmp_path))


def test_a_mistake_in_a_worker_is_one_line_without_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    table = write_table(tmp_path / "list.csv", [("text.mp4", "a")] * 8)
    clips = read_clips([table], tmp_path)
    with pytest.raises(DataError) as refused:
        list(trained_on(clips, tmp_path))
    assert "20 clips drawn one after another cannot be decoded" in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="a shape"), worker_deaths_told():
        raise RuntimeError("a shape does not fit")


def test_batches_come_from_workers_that_can_have_no_shared_memory(clip_set: Path) -> None:
    """As with a /dev/shm that is full: a process that may make no file over 4 kB, in memory or on
    a disk.
    """
    code = f"""
from pathlib import Path
import resource
from tests.model.data.test_loading import *
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
clips = read_clips([Path({str(clip_set / "train.csv")!r})], Path({str(clip_set / "clips")!r}))
source = TrainingClips(clips, SPEC, AugmentConfig())
batches = list(training_batches(source, Plan(24, 8, 8, 1, 0), 0, 0, 6, WORKERS))
assert [tuple(batch.frames.shape) for batch in batches] == [(8, 4, 48, 48, 3)] * 6
assert len(list(evaluation_clips(TestClips(clips, SPEC), range(24), WORKERS))) == 24
print("all there")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout == "all there\n", run.stderr


def test_where_no_worker_can_start_clips_are_decoded_in_the_process_and_a_line_says_so(
    clip_set: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without /dev/shm there are no semaphores."""

    def refused(_count: int) -> None:
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(multiprocessing, "Semaphore", refused)
    clips = read_clips([clip_set / "val.csv"], clip_set / "clips")
    scored = list(in_workers(TestClips(clips, SPEC), WORKERS))
    assert [clip.index for clip in scored] == list(range(8))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "no decoding workers can be started, /dev/shm takes nothing (No such file" in said
    assert "--shm-size" in said
