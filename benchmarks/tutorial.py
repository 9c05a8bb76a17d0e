"""The tutorial's case by the clock: ten classes of twenty clips, from the folder to the bundle.

    python -m benchmarks.tutorial [--classes 10] [--clips 20] [--minutes N]

Clips of moving shapes (two to six seconds, 240 pixels high) lie in a folder for each class, and an
X-CLIP B/32 with random weights as transformers saves one. Then the command of docs/finetune.md runs
as a process of its own, and the time of what it says tells how long each part took. Random weights
learn little: accuracy is nobody's business here. So that the run is not ended early by that,
`complete_s` is what all its epochs take.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from benchmarks.lib.bundles import FOLDER
from benchmarks.lib.layouts import to_huggingface
from benchmarks.lib.networks import random_network
from benchmarks.lib.timing import publish
from model.command_line import Parser, whole
from model.data.shapes import COLOURS, MOTIONS, OUTLINES, Subject, draw_frames, draw_scene
from model.data.shapes.files import write_video
from model.data.shapes.scene import SceneOptions

VARIANT = "xclip-base-patch32"
GOAL_S = 600
SCENES = SceneOptions(short_side=(240, 240), duration_s=(2, 6), most_frames=180)
# What the command says when a part is done, and what that part was.
PARTS = (
    ("column text of", "clips found and looked at"),
    ("two updates took", "clips to train on encoded, updates timed"),
    ("checkpoint: ", "trained, measured, reported"),
    ("serve it: ", "bundle made"),
)


@dataclass(frozen=True)
class Told:
    """A line of the command, and when it came, in seconds after the start."""

    line: str
    at: float


def main() -> int:
    """Measure and publish; 1 where the goal is missed."""
    parser = Parser(prog="python -m benchmarks.tutorial")
    parser.add_argument("--classes", type=whole(2), default=10, help="one for each motion (10)")
    parser.add_argument("--clips", type=whole(2), default=20, help="of each class (20)")
    parser.add_argument("--minutes", type=whole(1), help="passed on")
    given = parser.parse_args()
    clips = _clips(given.classes, given.clips)
    run = FOLDER / "tutorial-run"
    shutil.rmtree(run, ignore_errors=True)
    told = _trained(clips, _network(), run, given.minutes)
    rows, complete_s = _rows(told, json.loads((run / "report" / "report.json").read_text()), run)
    command = f"python -m benchmarks.tutorial --classes {given.classes} --clips {given.clips}"
    publish(
        "tutorial",
        command + (f" --minutes {given.minutes}" if given.minutes else ""),
        rows,
        variant=VARIANT,
        goal_s=GOAL_S,
        complete_s=complete_s,
        said=[line.line for line in told if "update" in line.line and "took" in line.line],
    )
    return int(complete_s > GOAL_S)


def _clips(classes: int, each: int) -> Path:
    """Draw clips of each motion, named as a camera names them."""
    folder = FOLDER / f"tutorial-{classes}-{each}"
    if folder.is_dir():
        return folder
    draft = folder.with_name(f"{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    for number, motion in enumerate(MOTIONS[:classes]):
        (draft / motion).mkdir(parents=True)
        for index in range(each):
            rng = np.random.default_rng([number, index])
            subject = Subject(str(rng.choice([*COLOURS])), str(rng.choice(OUTLINES)), motion)
            scene = draw_scene(rng, subject, SCENES)
            file = draft / motion / f"IMG_{number:02d}{index:02d}.mp4"
            write_video(file, draw_frames(scene), rate=scene.rate)
    draft.rename(folder)
    return folder


def _network() -> Path:
    """Write the network as transformers' `save_pretrained` does."""
    folder = FOLDER / "tutorial-network"
    folder.mkdir(parents=True, exist_ok=True)
    state, config = to_huggingface(random_network(VARIANT))
    tensors = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def _trained(clips: Path, network: Path, run: Path, minutes: int | None) -> list[Told]:
    command = [sys.executable, "-m", "xclip_serve", "train", str(clips), "--from", str(network)]
    command += ["--output", str(run), *(["--minutes", str(minutes)] if minutes else [])]
    began = time.monotonic()
    told = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            print(line, end="", file=sys.stderr)
            told.append(Told(line.strip(), time.monotonic() - began))
    if process.returncode:
        sys.exit(f"the command failed with {process.returncode}")
    return told


def _rows(
    told: list[Told], report: dict[str, Any], run: Path
) -> tuple[list[dict[str, Any]], float]:
    """Return the parts with their seconds, and the seconds of a run of all its epochs."""
    ends = [next(line.at for line in told if mark in line.line) for mark, _ in PARTS]
    seconds = [end - start for start, end in pairwise([0.0, *ends])]
    rows: list[dict[str, Any]] = [
        {"what": what, "s": part} for (_, what), part in zip(PARTS, seconds, strict=True)
    ]
    config = (run / "config.yaml").read_text()
    planned = next(float(line.split()[1]) for line in config.splitlines() if "epochs: " in line)
    done = max(entry["epoch"] for entry in report["accuracy"])
    rows.append({"what": f"all, {done:g} of {planned:g} epochs", "s": ends[-1]})
    return rows, ends[-1] + max(planned / done - 1, 0) * seconds[2]


if __name__ == "__main__":
    sys.exit(main())
