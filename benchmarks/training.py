"""Training against transformers' XCLIPModel: the same clips, labels, batch and loop.

    python -m benchmarks.training [--batch 4] [--updates 3] [--precision fp32]

Both read the video files, take eight frames, and change the weights of an X-CLIP B/32 with AdamW;
the text tower is frozen, as published. Ours is the trainer of `python -m model.train`, which
computes frozen texts once. The peer is what the documentation of transformers shows: PyAV, the
processor, the model, whose forward embeds the labels each time. Loading happens in the same
process, so that its share can be told; with workers it goes on beside the step, in both.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

import model.torchvision_schemas  # noqa: F401  (before transformers)
from benchmarks._bundles import FOLDER, random_network
from benchmarks._timing import publish
from export.runtime import available_cpus
from model.data.loading import training_batches
from model.data.shapes.dataset import ShapesOptions, make_dataset
from model.data.shapes.scene import SceneOptions
from model.inputs import Tokenizer
from model.native import save_checkpoint
from model.processes import joined
from model.publish import to_huggingface
from model.train.config import TrainConfig
from model.train.memory import keep_freed_memory
from model.train.run import prepare

VARIANT = "xclip-base-patch32"
CLIPS, LABELS, FRAMES, SIDE = 16, 16, 8, 224
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def main() -> int:
    """Measure and publish."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training")
    parser.add_argument("--batch", type=int, default=4, help="clips of an update (4)")
    parser.add_argument("--updates", type=int, default=3, help="of each contestant (3)")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    given = parser.parse_args()
    torch.set_num_threads(available_cpus())
    keep_freed_memory()  # as the trainer does; in one process it serves the peer as well
    clips, names = _clips()
    with joined("cpu") as processes:
        ours = _ours(clips, given.batch, given.updates, given.precision, processes)
        theirs = _transformers(clips, names, given.batch, given.precision)
        contestants = {"transformers": theirs, "xclip-serve": ours}
        taken = _take_turns(contestants, given.updates)
    rows = []
    for name, phases in taken.items():
        total = sum(phases.values())
        rate = given.batch * given.updates / total
        each = {f"{phase} s": seconds / given.updates for phase, seconds in phases.items()}
        rows.append({"what": name, "clips/s": rate, **each})
    publish(
        "training",
        f"python -m benchmarks.training --batch {given.batch} --precision {given.precision}",
        rows,
        variant=VARIANT,
        batch=given.batch,
        labels=LABELS,
        precision=given.precision,
        ratio=rows[1]["clips/s"] / rows[0]["clips/s"],
    )
    return 0


def _take_turns(contestants: dict[str, Any], updates: int) -> dict[str, dict[str, float]]:
    """Seconds of each phase, after one update that is not counted."""
    taken: dict[str, dict[str, float]] = {name: {} for name in contestants}
    for turn in range(-1, updates):
        for name, contestant in contestants.items():
            for phase, seconds in contestant(turn + 1).items():
                if turn >= 0:
                    taken[name][phase] = taken[name].get(phase, 0.0) + seconds
    return taken


def _clips() -> tuple[Path, list[str]]:
    """Sixteen clips of ten seconds, each of a class of its own, in the size people train on."""
    folder = FOLDER / "training-clips"
    if not (folder / "train.csv").exists():
        scenes = SceneOptions(short_side=(256, 256), duration_s=(10, 10), most_frames=300)
        options = ShapesOptions(clips=CLIPS, val_clips=0, unseen_clips=0, scenes=scenes)
        make_dataset(folder, options)
    files = sorted((folder / "clips" / "train-00").iterdir())[:CLIPS]
    names = [f"action number {i}" for i in range(LABELS)]
    lines = [f"{file.relative_to(folder)},{i % LABELS}" for i, file in enumerate(files)]
    (folder / "list.csv").write_text("\n".join(["path,label", *lines]) + "\n")
    labels = [f"{i},{name}" for i, name in enumerate(names)]
    (folder / "names.csv").write_text("\n".join(["id,name", *labels]) + "\n")
    return folder, names


# --- ours ---------------------------------------------------------------------------------------


def _ours(folder: Path, batch: int, updates: int, precision: str, processes: Any) -> Any:
    checkpoint = folder / "checkpoint"
    if not checkpoint.exists():
        save_checkpoint(random_network(VARIANT), checkpoint, name=VARIANT, trained=False)
    plain = {"scales": [1.0], "positions": "centre", "flip": 0, "jitter": 0, "grey": 0}
    run = prepare(
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
                "batch": {"size": batch},
                "schedule": {"epochs": (updates + 2) * batch / CLIPS + 1, "warmup_epochs": 0},
                "compute": {"precision": precision, "device": "cpu"},
            }
        ),
        processes,
    )
    batches = training_batches(run.training, run.plan, 0, 0, run.updates, run.config.data)

    def update(number: int) -> dict[str, float]:
        began = time.perf_counter()
        taken = next(batches)
        loaded = time.perf_counter()
        run.updater.update(number, iter([taken]))
        return {"loading": loaded - began, "step": time.perf_counter() - loaded}

    return update


# --- transformers -------------------------------------------------------------------------------


class _Videos(torch.utils.data.Dataset[Any]):
    """Files and classes, read as transformers' documentation reads them."""

    def __init__(self, files: list[Path], processor: Any) -> None:
        self.files, self.processor = files, processor

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        with av.open(str(self.files[index])) as container:
            wanted = np.linspace(0, container.streams.video[0].frames - 1, FRAMES).astype(int)
            frames = [
                frame.to_ndarray(format="rgb24")
                for i, frame in enumerate(container.decode(video=0))
                if i in wanted
            ]
        pixels = self.processor(list(np.stack(frames)), return_tensors="pt")["pixel_values"][0]
        return pixels, index % LABELS


def _transformers(folder: Path, names: list[str], batch: int, precision: str) -> Any:
    from transformers import VideoMAEImageProcessor, XCLIPConfig, XCLIPModel

    state, config = to_huggingface(random_network(VARIANT))
    port = XCLIPModel(XCLIPConfig.from_dict(config)).train()
    port.load_state_dict(state, strict=False)
    for part in (port.text_model, port.text_projection):
        part.requires_grad_(requires_grad=False)
    trained = [p for p in port.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=8e-6, weight_decay=0.001, betas=(0.9, 0.98))
    processor = VideoMAEImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE},
        image_mean=list(MEAN), image_std=list(STD),
    )  # fmt: skip
    files = sorted((folder / "clips" / "train-00").iterdir())[:CLIPS]
    ids = torch.from_numpy(Tokenizer.clip().encode(names, 77, 0))
    ids = torch.nn.functional.pad(ids, (0, 77 - ids.shape[1]))
    batches = _for_ever(DataLoader(_Videos(files, processor), batch, shuffle=True, drop_last=True))

    def update(_: int) -> dict[str, float]:
        began = time.perf_counter()
        pixels, labels = next(batches)
        loaded = time.perf_counter()
        half = torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()
        with half:
            logits = port(input_ids=ids, pixel_values=pixels).logits_per_video
        loss = cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        return {"loading": loaded - began, "step": time.perf_counter() - loaded}

    return update


def _for_ever(loader: DataLoader[Any]) -> Iterator[Any]:
    while True:
        yield from loader


if __name__ == "__main__":
    sys.exit(main())
