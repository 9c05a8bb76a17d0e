"""Training against transformers' XCLIPModel: the same clips, labels, batch and loop.

    python -m benchmarks.training [--labels 16 51 400] [--batch 4] [--updates 6] [--precision fp32]

Both read the video files, take eight frames, and change the weights of an X-CLIP B/32 with AdamW;
the text tower is frozen, as published. Ours is the trainer of `python -m model.train`, which
computes frozen texts once. The peer is what the documentation of transformers shows: PyAV, the
processor, the model, whose forward embeds the labels each time; so what it takes grows with their
number: 16 for classes of one's own, 51 as in HMDB51, 400 as in Kinetics. Both draw the same clips
and limit the gradient's norm. Loading happens in the same process, so that its share can be told;
with workers it goes on beside the step, in both. On a GPU both have their frames in page-locked
memory, and a step ends when the GPU has ended it.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import model.torchvision_schemas  # noqa: F401  (before transformers)
from benchmarks.lib.bundles import FOLDER, tokenizer_of
from benchmarks.lib.layouts import to_huggingface
from benchmarks.lib.networks import random_network
from benchmarks.lib.timing import publish
from export.runtime import available_cpus
from model.checkpoints.native import save_checkpoint
from model.command_line import Parser
from model.data.frames.loading import training_batches
from model.data.shapes.dataset import ShapesOptions, make_dataset
from model.data.shapes.scene import SceneOptions
from model.inputs import InputSpec
from model.network.config import VARIANTS
from model.processes import Processes, joined
from model.train.config import TrainConfig
from model.train.glibc_malloc import keep_freed_memory
from model.train.run import Run, prepare

VARIANT, FILES = "xclip-base-patch32", 16
LABELS = (16, 51, 400)
CLIP_NORM = 1.0
WARM_UP = 2
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Seconds of each phase of one update, by its number.
Update = Callable[[int], dict[str, float]]


@dataclass(frozen=True)
class Contest:
    """What both contestants do; `seconds` and `side` are those of the files."""

    variant: str = VARIANT
    labels: int = 16
    batch: int = 4
    updates: int = 6
    precision: str = "fp32"
    device: str = "cpu"
    seconds: float = 10
    side: int = 256
    folder: Path = FOLDER

    @property
    def files(self) -> int:
        """Video files."""
        return max(FILES, self.batch)

    @property
    def clips(self) -> int:
        """Lines of the list: every label has one, so a file may stand under several labels."""
        return max(self.labels, self.files)

    def names(self) -> list[str]:
        """Return the labels."""
        return [f"action number {i}" for i in range(self.labels)]


def main() -> int:
    """Measure and publish."""
    parser = Parser(prog="python -m benchmarks.training")
    parser.add_argument(
        "--labels",
        type=int,
        nargs="+",
        default=LABELS,
        help="how many, one or more times (16 51 400)",
    )
    parser.add_argument("--batch", type=int, default=4, help="clips of an update (4)")
    parser.add_argument("--updates", type=int, default=6, help="of each contestant (6)")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(available_cpus())
    keep_freed_memory()  # as the trainer does; in one process it serves the peer as well
    rows = []
    for labels in given.labels:
        theirs, ours = measure(Contest(**vars(given) | {"labels": labels}))
        theirs["ratio"], ours["ratio"] = 1.0, ours["clips/s"] / theirs["clips/s"]
        rows += [{"labels": labels, **theirs}, {"labels": labels, **ours}]
    publish(
        "training",
        f"python -m benchmarks.training --labels {' '.join(map(str, given.labels))} "
        f"--batch {given.batch} --precision {given.precision} --updates {given.updates} "
        f"--device {given.device}",
        rows,
        variant=VARIANT,
        batch=given.batch,
        precision=given.precision,
    )
    return 0


def measure(contest: Contest) -> list[dict[str, Any]]:
    """Measure each contestant, transformers first: clips a second, seconds of each phase."""
    folder = _clips(contest)
    with joined(contest.device) as processes:
        run = _run(folder, contest, processes)
        drawn = [[d.index for d in draws] for draws in run.plan.draws(0, 0, run.updates)]
        ours, theirs = _ours(run), _transformers(folder, contest, drawn, processes.device)
        contestants = {"transformers": theirs, "xclip-serve": ours}
        taken = _take_turns(contestants, contest.updates)
    rows = []
    for name, phases in taken.items():
        clips = contest.batch * contest.updates
        each = {f"{phase} s": seconds / contest.updates for phase, seconds in phases.items()}
        rates = {"clips/s": clips / sum(phases.values()), "step clips/s": clips / phases["step"]}
        rows.append({"what": name, **rates, **each})
    return rows


def _take_turns(contestants: dict[str, Update], updates: int) -> dict[str, dict[str, float]]:
    """Measure each phase. The first updates are not counted: memory that nothing has used before
    comes to a virtual machine as slowly as the work is done.
    """
    taken: dict[str, dict[str, float]] = {name: {} for name in contestants}
    for turn in range(WARM_UP + updates):
        for name, contestant in contestants.items():
            for phase, seconds in contestant(turn).items():
                if turn >= WARM_UP:
                    taken[name][phase] = taken[name].get(phase, 0.0) + seconds
    return taken


def _clips(contest: Contest) -> Path:
    """Write clips of ten seconds in the size people train on, in a folder with their tables."""
    folder = contest.folder / f"training-clips-{contest.files}"
    if not (folder / "train.csv").exists():
        scenes = SceneOptions(
            short_side=(contest.side, contest.side),
            duration_s=(contest.seconds, contest.seconds),
            most_frames=300,
        )
        options = ShapesOptions(contest.files, val_clips=0, unseen_clips=0, scenes=scenes)
        make_dataset(folder, options)
    lines = [f"{file.relative_to(folder)},{label}" for file, label in _list(folder, contest)]
    (folder / "list.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    labels = [f"{i},{name}" for i, name in enumerate(contest.names())]
    (folder / "names.csv").write_text("\n".join(["id,name", *labels]) + "\n")
    return folder


def _list(folder: Path, contest: Contest) -> list[tuple[Path, int]]:
    """Write the list of files and classes."""
    files = sorted((folder / "clips").glob("train-*/*"))
    return [(files[i % len(files)], i % contest.labels) for i in range(contest.clips)]


# --- ours ---------------------------------------------------------------------------------------


def _run(folder: Path, contest: Contest, processes: Processes) -> Run:
    checkpoint = folder / f"checkpoint-{contest.variant}"
    if not checkpoint.exists():
        net = random_network(contest.variant)
        own = None if net.config.vocab_size > 40_000 else tokenizer_of(net.config)
        save_checkpoint(net, checkpoint, tokenizer=own, name=contest.variant, trained=False)
    # A run is gone on with where it was left: each measurement begins anew.
    shutil.rmtree(folder / "run", ignore_errors=True)
    plain = {"scales": [1.0], "positions": "centre", "flip": 0, "jitter": 0, "grey": 0}
    epochs = (WARM_UP + contest.updates) * contest.batch / contest.clips + 1
    return prepare(
        TrainConfig.model_validate(
            {
                "output": folder / "run",
                "start": {"source": str(checkpoint)},
                "data": {
                    "root": folder,
                    "labels": folder / "names.csv",
                    "train": [folder / "list.csv"],
                    "workers": 0,
                },
                "augment": plain,
                "mixing": {"probability": 0},
                "optim": {"clip_norm": CLIP_NORM},
                "batch": {"size": contest.batch},
                "schedule": {"epochs": epochs, "warmup_epochs": 0},
                "compute": {"precision": contest.precision, "device": contest.device},
            }
        ),
        processes,
    )


def _ours(run: Run) -> Update:
    device = run.processes.device
    pinned = device.type == "cuda"
    batches = training_batches(
        run.training, run.plan, 0, 0, run.updates, run.config.data, pinned=pinned
    )

    def update(number: int) -> dict[str, float]:
        began = time.perf_counter()
        taken = next(batches)
        loaded = time.perf_counter()
        run.updater.update(number, iter([taken]))
        _end_of_step(device)
        return {"loading": loaded - began, "step": time.perf_counter() - loaded}

    return update


def _end_of_step(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


# --- transformers -------------------------------------------------------------------------------


class _Videos(torch.utils.data.Dataset[Any]):
    """Files and classes, read as transformers' documentation reads them."""

    def __init__(self, clips: list[tuple[Path, int]], processor: Any, frames: int) -> None:
        self.clips, self.processor, self.frames = clips, processor, frames

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        file, label = self.clips[index]
        with av.open(str(file)) as container:
            last = container.streams.video[0].frames - 1
            sampled = np.linspace(0, last, self.frames).astype(int)
            frames = [
                frame.to_ndarray(format="rgb24")
                for i, frame in enumerate(container.decode(video=0))
                if i in sampled
            ]
        pixels = self.processor(list(np.stack(frames)), return_tensors="pt")["pixel_values"][0]
        return pixels, label


def _transformers(
    folder: Path, contest: Contest, drawn: list[list[int]], device: torch.device
) -> Update:
    """Make the step of transformers' model; `drawn` are the clips of each batch."""
    from transformers import XCLIPConfig, XCLIPModel

    net = random_network(contest.variant)
    state, config = to_huggingface(net)
    port = XCLIPModel(XCLIPConfig.from_dict(config)).train()
    port.load_state_dict(state, strict=False)
    port.to(device)
    for part in (port.text_model, port.text_projection):
        part.requires_grad_(requires_grad=False)
    trained = [p for p in port.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=8e-6, weight_decay=0.001, betas=(0.9, 0.98))
    scaler = torch.amp.GradScaler(device.type, enabled=contest.precision == "fp16")
    videos = _Videos(_list(folder, contest), _processor(net.inputs), net.config.num_frames)
    batches = iter(DataLoader(videos, batch_sampler=drawn, pin_memory=device.type == "cuda"))
    ids = _token_ids(contest).to(device)

    def update(_: int) -> dict[str, float]:
        began = time.perf_counter()
        pixels, labels = next(batches)
        loaded = time.perf_counter()
        there = pixels.to(device, non_blocking=True)
        with _half(device, contest.precision):
            logits = port(input_ids=ids, pixel_values=there).logits_per_video
        loss = cross_entropy(logits.float(), labels.to(device, non_blocking=True))
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(trained, CLIP_NORM)
        scaler.step(optimizer)
        scaler.update()
        _end_of_step(device)
        return {"loading": loaded - began, "step": time.perf_counter() - loaded}

    return update


def _processor(spec: InputSpec) -> Any:
    from transformers import VideoMAEImageProcessor

    side = spec.image_size
    return VideoMAEImageProcessor(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side},
        image_mean=[m / 255 for m in spec.mean], image_std=[s / 255 for s in spec.std],
    )  # fmt: skip


def _token_ids(contest: Contest) -> torch.Tensor:
    """Return the labels at the full context length, as transformers' processor pads them."""
    config = VARIANTS[contest.variant]
    ids = torch.from_numpy(tokenizer_of(config).encode(contest.names(), config.context_length, 0))
    return torch.nn.functional.pad(ids, (0, config.context_length - ids.shape[1]))


def _half(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, DTYPES[precision]) if precision in DTYPES else nullcontext()


if __name__ == "__main__":
    sys.exit(main())
