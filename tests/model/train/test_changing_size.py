"""Clips whose pictures change size midway, as browsers record them, train as they check."""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from model.data.check.check import check
from model.data.config import DataConfig
from model.data.lists.cliplist import read_clips
from model.inputs import InputSpec, Tokenizer
from model.train.loop import train
from model.train.record import read_metrics
from tests.model.clip_sets import tiny_config, write_table

FRAMES = 8  # of each size


def write_changing(file: Path, sizes: tuple[tuple[int, int], ...], seed: int) -> None:
    """A WebM of one stream: a part for each size (width, height), from an encoder of its own."""
    rng = np.random.default_rng(seed)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libvpx", rate=10)
        stream.width, stream.height = sizes[0]
        stream.pix_fmt = "yuv420p"
        for number, (width, height) in enumerate(sizes):
            encoder = av.CodecContext.create("libvpx", "w")
            encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
            encoder.framerate, encoder.time_base = Fraction(10), Fraction(1, 10)
            encoder.options = {"deadline": "realtime", "cpu-used": "8"}
            for index in range(FRAMES + 1):
                frame = None
                if index < FRAMES:
                    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
                    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    frame.pts = number * FRAMES + index
                for packet in encoder.encode(frame):
                    packet.time_base = encoder.time_base
                    packet.stream = stream
                    container.mux(packet)


@pytest.fixture(scope="module")
def changing(clip_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train.csv` and `val.csv` in which every clip changes its size."""
    folder = tmp_path_factory.mktemp("changing")
    for part in ("train", "val"):
        with (clip_set / f"{part}.csv").open() as stream:
            rows = [
                row
                for row in csv.DictReader(stream)
                if row["path"].endswith(("0.mp4", "6.mp4", "1.mp4", "7.mp4"))
            ]
        named = []
        for number, row in enumerate(rows):
            name = f"{part}-{number}.webm"
            sizes = ((96, 72), (64, 80)) if number % 2 else ((64, 48), (160, 90), (64, 48))
            write_changing(folder / name, sizes, number)
            named.append((name, row["label"]))
        write_table(folder / f"{part}.csv", named)
    return folder


def test_the_file_does_what_it_is_made_for(changing: Path) -> None:
    with av.open(str(changing / "train-0.webm")) as container:
        sizes = [(frame.width, frame.height) for frame in container.decode(video=0)]
    assert sizes == [(64, 48)] * FRAMES + [(160, 90)] * FRAMES + [(64, 48)] * FRAMES


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data__cache__folder": "frames"},
        {
            "cache__features": True,
            "vision": "frozen",
            "augment": {
                "frames": "evenly", "scales": [1.0], "positions": "centre", "flip": 0,
                "jitter": 0, "grey": 0,
            },
        },
    ],
    ids=["read each time", "decoded frames kept", "features kept"],
)  # fmt: skip
def test_what_checks_trains(changing: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    if "data__cache__folder" in changes:
        changes = {"data__cache__folder": str(tmp_path / "frames")}
    clips, val = (read_clips([changing / f"{part}.csv"], changing) for part in ("train", "val"))
    spec, config = InputSpec.official(8), DataConfig(workers=0)
    assert not check(clips, val, spec, Tokenizer.clip(), config, lambda: None).serious
    train(
        tiny_config(
            changing,
            tmp_path / "run",
            data__root=str(changing),
            data__max_broken_share=0,
            schedule__epochs=1,
            **changes,
        )
    )
    figures = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert all(np.isfinite(line["loss"]) for line in figures if "loss" in line)
