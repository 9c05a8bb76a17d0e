"""Sixty clips, one of them broken, and what `xclip-serve batch` makes of them."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.conftest import ROOT
from tests.service.conftest import clip_bytes

COUNT, BROKEN = 60, "31.mp4"
LABELS = ["a red circle moving left", "a red circle moving right", "a blue square growing"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def make_clips(made: Path) -> Path:
    """Write the clips and a list of labels into a folder."""
    (made / "clips" / "deeper").mkdir(parents=True)
    for i in range(COUNT):
        below = "deeper" if i % 7 == 0 else "."
        (made / "clips" / below / f"{i:02}.mp4").write_bytes(clip_bytes(i, frames=8 + i % 5))
    (made / "clips" / BROKEN).write_bytes(b"no video")
    (made / "clips" / "notes.md").write_text("no clip")
    (made / "labels.txt").write_text("\n".join(LABELS))
    return made


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "xclip_serve", "batch", *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def batch(folder: Path, *arguments: object) -> tuple[int, str]:
    """Exit status and what was said."""
    with start(folder, *arguments, "--labels", "labels.txt") as run:
        said = run.communicate()[1]
    return run.returncode, said


def rows(table: Path) -> dict[str, dict[str, Any]]:
    """The rows by path; none twice."""
    read: list[dict[str, Any]]
    if table.suffix == ".csv":
        with table.open(newline="") as file:
            read = [{k: v or None for k, v in row.items()} for row in csv.DictReader(file)]
        for row in read:
            row.update(
                {k: float(v) for k, v in row.items() if v and k[:4] in ("scor", "simi", "dura")}
            )
    elif table.suffix == ".jsonl":
        read = [json.loads(line) for line in table.read_text().splitlines()]
    else:
        read = pq.read_table(table).to_pylist()
    by_path = {str(row["path"]): row for row in read}
    assert len(by_path) == len(read)
    return by_path
