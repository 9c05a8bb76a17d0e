"""Small sets of real video files that a tiny network can learn: the colour is the label."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import av
import numpy as np

from model.train.config import TrainConfig

COLOURS = {
    "red clip": (200, 30, 30),
    "green clip": (30, 200, 30),
    "blue clip": (30, 30, 200),
    "dark clip": (20, 20, 20),
}


def write_clip(
    file: Path,
    colour: tuple[int, int, int],
    frames: int = 9,
    size: tuple[int, int] = (64, 80),
    seed: int = 0,
) -> None:
    """An H.264 file of noise around a colour."""
    rng = np.random.default_rng(seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for _ in range(frames):
            pixels = np.clip(rng.normal(0, 25, (*size, 3)) + np.array(colour), 0, 255)
            frame = av.VideoFrame.from_ndarray(pixels.astype(np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def write_set(folder: Path, train: int = 6, val: int = 2) -> Path:
    """`clips/` with so many clips of each colour, `train.csv` and `val.csv`."""
    rows: dict[str, list[tuple[str, str]]] = {"train": [], "val": []}
    for label, colour in COLOURS.items():
        for i in range(train + val):
            name = f"{label} {i}.mp4"
            write_clip(folder / "clips" / name, colour, seed=i)
            rows["train" if i < train else "val"].append((name, label))
    for part, pairs in rows.items():
        write_table(folder / f"{part}.csv", pairs)
    return folder


def write_table(file: Path, rows: list[Any], columns: tuple[str, ...] = ("path", "label")) -> Path:
    """A CSV table."""
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)
    return file


def tiny_run(clips: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """The content of a configuration: a network of a few layers from scratch, seconds to train.

    Changes are named with two underscores between levels: `optim__lr=1e-3`.
    """
    config: dict[str, Any] = {
        "output": str(output),
        "start": {
            "architecture": {
                "image_size": 48, "patch_size": 16, "num_frames": 4, "vision_width": 64,
                "vision_layers": 2, "embed_dim": 64, "text_width": 64, "text_layers": 1,
                "context_length": 32,
            },
            "tokenizer_merges": 300,
        },
        "text": "trainable",
        "data": {
            "root": str(clips / "clips"),
            "train": [str(clips / "train.csv")],
            "val": [str(clips / "val.csv")],
            "workers": 0,
        },
        "augment": {"hue": 0, "grey": 0},
        "mixing": {"probability": 0},
        "optim": {"lr": 1e-3, "new_parts_factor": 1},
        "schedule": {"epochs": 2, "warmup_epochs": 0.5, "form": "smooth"},
        "batch": {"size": 8},
        "compute": {"threads": 1},
        "log": {"tensorboard": False},
    }  # fmt: skip
    for path, value in changes.items():
        *parents, key = path.split("__")
        target = config
        for parent in parents:
            target = target.setdefault(parent, {})
        target[key] = value
    return config


def tiny_config(clips: Path, output: Path, **changes: Any) -> TrainConfig:
    """The same, read."""
    return TrainConfig.model_validate(tiny_run(clips, output, **changes))
