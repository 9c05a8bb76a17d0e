"""What a small network keeps of a larger one, and what a processor gains.

    python -m benchmarks.teacher [--labelled 200] [--unlabelled 2000] [--updates 2500]

The teacher is the embedded demo (8 frames, 4 layers of width 128); the student (4 frames, 2 layers
of width 64) starts from nothing. Both tell coloured shapes apart (32 labels such as "a red circle")
on clips that neither has seen. The student is trained three times with as many updates: on the
labelled clips alone; on the same clips with `loss.teacher`; with `loss.teacher` and clips that
nobody labelled. Then the video encoders of both bundles take turns on one clip, and so do an X-CLIP
L/14 and a B/32 of random weights in torch: there are no weights of their size that know shapes.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.lib.bundles import FOLDER
from benchmarks.lib.networks import random_network
from benchmarks.lib.timing import publish, take_turns
from export.build import BundleOptions, make_bundle
from export.bundle import Bundle, open_bundle
from export.runtime import open_runtime
from model.checkpoint import read_network
from model.command_line import Parser, whole
from model.data.config import DataConfig
from model.data.lists.cliplist import read_clips
from model.data.lists.labels import read_labels, write_labels
from model.data.shapes.dataset import ShapesOptions, make_dataset
from model.data.shapes.scene import SceneOptions
from model.evaluate.run import Views, evaluate
from model.evaluate.sources import from_bundle
from model.progress import Steps
from model.train.config import TrainConfig
from model.train.loop import train

TEACHER = Path(__file__).resolve().parents[1] / "service" / "demo_bundle"
SEED = 77  # of clips that the demo was not trained on
BATCH = 32
SIZES = ("xclip-large-patch14", "xclip-base-patch32")
STUDENT: dict[str, Any] = {
    "architecture": {
        "image_size": 80, "patch_size": 16, "num_frames": 4, "vision_width": 64,
        "vision_layers": 2, "embed_dim": 64, "text_width": 64, "text_layers": 1,
        "prompt_layers": 1,
    },
    "tokenizer_merges": 512,
    "position_table": "sines",
    "inputs": {
        "num_frames": 4, "image_size": 80, "resize_short_side": 80,
        "resize_rule": "bilinear-antialias",
    },
}  # fmt: skip


def main() -> int:
    """Measure and publish."""
    parser = Parser(prog="python -m benchmarks.teacher")
    parser.add_argument("--labelled", type=whole(BATCH), default=200, help="clips (200)")
    parser.add_argument("--unlabelled", type=whole(1), default=2000, help="clips (2000)")
    parser.add_argument("--updates", type=whole(1), default=2500, help="of each run (2500)")
    given = parser.parse_args()
    clips = _clips(given.labelled, given.unlabelled)
    labelled, others = clips / "labelled.csv", clips / "others.txt"
    runs: dict[str, tuple[list[Path], dict[str, Any]]] = {
        "labelled clips": ([labelled], {}),
        "labelled clips, teacher": ([labelled], {"teacher": TEACHER}),
        "all clips, teacher": ([labelled, others], {"teacher": TEACHER}),
    }
    rows: list[dict[str, Any]] = [
        {"what": "the teacher", "top-1": _accuracy(clips), "kept": None, "s": None}
    ]
    for name, (lists, loss) in runs.items():
        size = given.labelled + given.unlabelled * (len(lists) - 1)
        began = time.perf_counter()
        top1 = _trained(clips, name, lists, loss, given.updates * BATCH / (size // BATCH * BATCH))
        kept = top1 / rows[0]["top-1"]
        rows.append({"what": name, "top-1": top1, "kept": kept, "s": time.perf_counter() - began})
    student = FOLDER / "teacher-student"
    options = BundleOptions(precisions=("fp32",), overwrite=True)
    small = make_bundle(read_network(_run("all clips, teacher") / "checkpoint"), student, options,
                        Steps())  # fmt: skip
    publish(
        "teacher",
        f"python -m benchmarks.teacher --labelled {given.labelled} --unlabelled "
        f"{given.unlabelled} --updates {given.updates}",
        rows,
        clips_measured_on=sum(1 for _ in (clips / "val.csv").open()) - 1,
        video_encoder_ms=_speed({"teacher": open_bundle(TEACHER), "student": small}),
        published_sizes_ms=_sizes(),
        bytes={
            name: _size(folder) for name, folder in (("teacher", TEACHER), ("student", student))
        },
    )
    return 0


def _clips(labelled: int, unlabelled: int) -> Path:
    """Draw clips; lists of those with and without labels, and of others to measure on."""
    folder = FOLDER / f"teacher-{labelled}-{unlabelled}"
    if (folder / "val.csv").is_file() and (folder / "labels.csv").is_file():
        return folder
    scenes = SceneOptions(short_side=(80, 112), most_frames=24)
    options = ShapesOptions(
        labelled + unlabelled, val_clips=400, unseen_clips=0, seed=SEED, scenes=scenes,
        h264_only=True,
    )  # fmt: skip
    make_dataset(folder, options, workers=2)
    rows, val = _rows(folder / "stills.csv"), _rows(folder / "stills_val.csv")
    _write(folder / "labelled.csv", rows[:labelled])
    (folder / "others.txt").write_text("".join(f"{path}\n" for path, _ in rows[labelled:]))
    known = sorted({label for _, label in rows[:labelled]})
    write_labels(folder / "labels.csv", known)
    _write(folder / "val.csv", [row for row in val if row[1] in known])
    return folder


def _rows(file: Path) -> list[tuple[str, str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return [(row["path"], row["label"]) for row in csv.DictReader(stream)]


def _write(file: Path, rows: Iterable[tuple[str, str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("path", "label"), *rows])


def _accuracy(clips: Path) -> float:
    """Measure the teacher."""
    val = read_clips([clips / "val.csv"], clips, read_labels(clips / "labels.csv"))
    scorer = from_bundle(TEACHER, "auto", None).scorer
    return float(evaluate(scorer, val, Views(), DataConfig(workers=1)).top(1))


def _run(name: str) -> Path:
    return FOLDER / f"teacher-{name.replace(',', '').replace(' ', '-')}"


def _trained(
    clips: Path, name: str, lists: list[Path], loss: dict[str, Any], epochs: float
) -> float:
    """Train the student; its accuracy."""
    run = _run(name)
    shutil.rmtree(run, ignore_errors=True)
    config = {
        "output": run,
        "name": "student",
        "start": STUDENT,
        "text": "trainable",
        "data": {
            "root": clips,
            "labels": clips / "labels.csv",
            "train": lists,
            "val": [clips / "val.csv"],
            "workers": 1,
            "cache": {"folder": clips / "frames", "frames": 16},
        },
        # Colours are in the labels.
        "augment": {"scales": [1.0, 0.9, 0.8], "jitter": 0, "grey": 0},
        "mixing": {"probability": 0},
        "loss": {"smoothing": 0.05, "teacher_share": 0.5, **loss},
        "optim": {"name": "muon", "lr": 2e-3, "new_parts_factor": 1, "clip_norm": 1},
        "schedule": {"epochs": epochs, "warmup_epochs": 0.05 * epochs, "form": "smooth"},
        "batch": {"size": BATCH},
        "compute": {"precision": "auto"},
        "evaluate": {"every_epochs": 10_000, "at_start": False, "batch": 32},
        "save": {"every_epochs": 10_000},
        "log": {"tensorboard": False, "every_updates": 100},
    }
    train(TrainConfig.model_validate(config))
    report: dict[str, Any] = json.loads((run / "report" / "report.json").read_text())
    return float(report["top1"])


def _speed(bundles: dict[str, Bundle]) -> dict[str, float]:
    """Return the median milliseconds of a clip through each video encoder, fp32, ONNX Runtime."""
    contestants = {}
    for name, bundle in bundles.items():
        runtime = open_runtime(bundle, "onnxruntime-cpu", "fp32")
        inputs = bundle.manifest.inputs
        shape = (1, inputs.num_frames, inputs.image_size, inputs.image_size, 3)
        frames = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        contestants[name] = lambda runtime=runtime, frames=frames: runtime.encode_video(frames)
    return {name: timing.median_ms for name, timing in take_turns(contestants, rounds=200).items()}


def _sizes() -> dict[str, float]:
    """Return the median milliseconds of a clip of eight frames through networks of real size."""
    frames = torch.rand(1, 8, 3, 224, 224)
    nets = {name: random_network(name) for name in SIZES}
    with torch.inference_mode():
        timings = take_turns(
            {name: partial(net.encode_video, frames) for name, net in nets.items()}, rounds=5
        )
    return {name: timing.median_ms for name, timing in timings.items()}


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.onnx*"))


if __name__ == "__main__":
    sys.exit(main())
