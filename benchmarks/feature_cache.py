"""Epochs on clips that were encoded once, against encoding them in every epoch.

    python -m benchmarks.feature_cache [--clips 32] [--epochs 4] [--precision fp32]

An X-CLIP B/32 with its vision tower frozen and without augmentation, ten labels, batches of eight,
trained by the trainer of `python -m model.train` twice: as it is, and with `cache.features`.
Decoded frames are kept in both, so that what is compared is the network alone. The losses of both
are compared update by update.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.lib.bundles import FOLDER
from benchmarks.lib.networks import random_network
from benchmarks.lib.timing import publish
from export.runtime import available_cpus
from model.checkpoints.native import save_checkpoint
from model.data.frames.loading import training_batches
from model.data.shapes.dataset import ShapesOptions, make_dataset
from model.data.shapes.scene import SceneOptions
from model.processes import joined
from model.train.config import TrainConfig
from model.train.glibc_malloc import keep_freed_memory
from model.train.run import prepare

VARIANT = "xclip-base-patch32"
LABELS, BATCH = 10, 8
GOAL = 10.0
OFF = {
    "frames": "evenly",
    "scales": [1.0],
    "positions": "centre",
    "flip": 0,
    "jitter": 0,
    "grey": 0,
}


def main() -> int:
    """Measure and publish; 1 where the goal is missed or the losses differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.feature_cache")
    parser.add_argument("--clips", type=int, default=32, help="in the list (32)")
    parser.add_argument(
        "--epochs", type=int, default=4, help="on features; one is timed without (4)"
    )
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    given = parser.parse_args()
    torch.set_num_threads(available_cpus())
    keep_freed_memory()
    folder = _clips(given.clips)
    plain = _measured(folder, given, features=False, epochs=1)
    kept = _measured(folder, given, features=True, epochs=given.epochs)
    apart = max(abs(a - b) for a, b in zip(plain["losses"], kept["losses"], strict=False))
    rows = [
        {"what": name, "epoch s": run["epoch_s"], "once s": run["once_s"], "times as fast": ratio}
        for name, run, ratio in (
            ("every epoch encodes", plain, 1.0),
            ("cache.features", kept, plain["epoch_s"] / kept["epoch_s"]),
        )
    ]
    publish(
        "feature_cache",
        f"python -m benchmarks.feature_cache --clips {given.clips} --epochs {given.epochs} "
        f"--precision {given.precision}",
        rows,
        variant=VARIANT,
        clips=given.clips,
        largest_difference_of_losses=apart,
    )
    print(f"losses of the first epoch differ by {apart:.1e} at most")
    return int(rows[1]["times as fast"] < GOAL or apart > 1e-3)


def _clips(clips: int) -> Path:
    folder = FOLDER / f"feature-cache-{clips}"
    if not (folder / "train.csv").exists():
        scenes = SceneOptions(short_side=(256, 256), duration_s=(2, 2), most_frames=60)
        make_dataset(folder, ShapesOptions(clips, val_clips=0, unseen_clips=0, scenes=scenes))
        save_checkpoint(random_network(VARIANT), folder / "network", name=VARIANT, trained=False)
    files = sorted(file.relative_to(folder) for file in (folder / "clips").glob("train-*/*"))
    lines = [f"{file},action number {i % LABELS}" for i, file in enumerate(files[:clips])]
    (folder / "list.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    return folder


def _measured(
    folder: Path, given: argparse.Namespace, *, features: bool, epochs: int
) -> dict[str, Any]:
    """Time some epochs, and apart from them what is done once; with the loss of each update."""
    output = folder / f"run-{features}"
    shutil.rmtree(output, ignore_errors=True)
    config = TrainConfig.model_validate(
        {
            "output": output,
            "start": {"source": str(folder / "network")},
            "vision": "frozen",
            "data": {
                "root": folder,
                "train": [folder / "list.csv"],
                "workers": 0,
                **({} if features else {"cache": {"folder": folder / "frames"}}),
            },
            "augment": OFF,
            "mixing": {"probability": 0},
            "cache": {"features": features},
            "optim": {"lr": 1e-4, "new_parts_factor": 1},
            "schedule": {"epochs": given.epochs, "warmup_epochs": 0, "form": "smooth"},
            "batch": {"size": BATCH},
            "compute": {"precision": given.precision},
        }
    )
    with joined("cpu") as processes:
        began = time.perf_counter()
        run = prepare(config, processes)
        once_s = time.perf_counter() - began
        updates = epochs * run.plan.updates_per_epoch
        batches = training_batches(run.training, run.plan, 0, 0, updates, run.config.data)
        began = time.perf_counter()
        losses = [run.updater.update(number, batches).loss for number in range(updates)]
        epoch_s = (time.perf_counter() - began) / epochs
    return {"losses": losses, "epoch_s": epoch_s, "once_s": once_s}


if __name__ == "__main__":
    sys.exit(main())
