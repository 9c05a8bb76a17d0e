"""Settings of a training, chosen from the clips and the machine, as a YAML file with reasons."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from model.data.lists.names import named
from xclip_serve.training.label_meaning import COLOURS, SIDES, naming
from xclip_serve.training.machine import Machine

Preset = Literal["full", "fast"]
SMALL_NETWORK = 256  # width of a vision tower that a CPU trains as a whole
SMALL_SET = 2000  # clips; mixing them needs more
MOST_CACHED = 16 << 30  # bytes of decoded frames
CACHED_FRAMES = 32
MOST_ON_CPU = 8  # clips of a large network at a time
UNEQUAL = 2  # so many times as many clips of one label as of another are drawn equally often


@dataclass(frozen=True)
class Network:
    """What the settings depend on of the network that is started from.

    `clip_bytes` are those of a clip while the whole network is trained.
    """

    source: str
    width: int
    image_size: int
    frames: int
    clip_bytes: int


@dataclass(frozen=True)
class Set:
    """The clips: how many there are to train on, and what the network reads for each label."""

    train: int
    val: int
    texts: tuple[str, ...]
    per_label: tuple[int, ...]


@dataclass(frozen=True)
class Chosen:
    """A value, and in a few words why."""

    value: Any
    why: str = ""


Values = Mapping[str, "Chosen | Values"]


def preset_for(network: Network, machine: Machine) -> Preset:
    """Choose what is trained: a large network on a CPU keeps its vision tower as it is."""
    return "full" if machine.gpu or network.width <= SMALL_NETWORK else "fast"


def epochs_for(network: Network, clips: Set) -> int:
    """Choose the length of a run: the fewer clips, the more often each is seen.

    A small network learns what it sees from its own pictures alone, and takes longer.
    """
    small = network.width <= SMALL_NETWORK
    passes, most = (16_000, 200) if small else (8_000, 50)
    return min(max(round(passes / clips.train), 10), most)


def evaluations_every(epochs: int) -> int:
    """Choose after how many epochs accuracy is measured: some 25 times in a run."""
    return max(epochs // 25, 1)


def choose(
    run: Path,
    lists: Mapping[str, Path],
    root: Path,
    clips: Set,
    network: Network,
    machine: Machine,
    preset: Preset,
    epochs: int,
) -> Values:
    """Choose the settings of a run in the folder `run`, in the order that they are written."""
    small = network.width <= SMALL_NETWORK
    batch = min(32, max(8, clips.train // 6), clips.train)
    every = evaluations_every(epochs)
    return {
        "output": Chosen(str(run), "the same command goes on with a run that was stopped"),
        "start": {"source": Chosen(network.source)},
        "data": {
            "root": Chosen(str(root)),
            "labels": Chosen(str(lists["labels"]), "its column text is what the network reads"),
            "train": Chosen([str(lists["train"])], f"{clips.train} clips"),
            "val": Chosen([str(lists["val"])], f"{clips.val} clips"),
            **_balance(clips),
            "workers": Chosen(min(max(machine.cores - 1, 1), 8), f"{machine.cores} cores"),
            **_cache(run, clips, network, machine),
        },
        **_trained(preset, network, small),
        "augment": _augment(clips) if preset == "full" else _no_augmentation(),
        **(
            {"mixing": {"probability": Chosen(0, "for larger sets")}}
            if clips.train < SMALL_SET or preset == "fast"
            else {}
        ),
        "loss": {"smoothing": Chosen(0.05)},
        "schedule": {
            "epochs": Chosen(epochs),
            "warmup_epochs": Chosen(max(round(epochs * 0.05), 1)),
            "form": Chosen("smooth"),
            "patience": Chosen(10, "evaluations that were no better end the run"),
        },
        "batch": {
            "size": Chosen(batch),
            # Rows of features go through all at once.
            **({} if preset == "fast" else _at_a_time(batch, network, machine)),
        },
        "compute": {"precision": Chosen("auto", "bf16 where the device multiplies it")},
        "evaluate": {"every_epochs": Chosen(every)},
        "save": {
            "best": Chosen("top1", "the network of the best evaluation is kept"),
            "every_epochs": Chosen(every),
        },
        "log": {"tensorboard": Chosen(False)},
    }


def _at_a_time(batch: int, network: Network, machine: Machine) -> dict[str, Chosen]:
    """Choose how many clips go through the network at a time, where not all of an update do."""
    fitting = max(machine.memory // 2 // network.clip_bytes, 1)
    most = min(fitting, batch if network.width <= SMALL_NETWORK or machine.gpu else MOST_ON_CPU)
    if most >= batch:
        return {}
    why = f"{machine.memory / 1e9:.1f} GB of memory are free" if most == fitting else ""
    return {"per_process": Chosen(max(n for n in range(1, most + 1) if batch % n == 0), why)}


def _trained(preset: Preset, network: Network, small: bool) -> dict[str, Chosen | Values]:
    """Choose what learns, and how fast."""
    if preset == "fast":
        return {
            "vision": Chosen("frozen", "only what X-CLIP adds to CLIP learns"),
            "cache": {"features": Chosen(True, "so each clip is encoded once")},
            "optim": {
                "lr": Chosen(1e-4),
                "new_parts_factor": Chosen(1),
                "weight_decay": Chosen(0.05),
                "clip_norm": Chosen(1),
            },
        }
    if small:
        return {
            "text": Chosen("trainable", "a small network learns new words"),
            "optim": {
                "lr": Chosen(3e-4),
                "new_parts_factor": Chosen(1),
                "weight_decay": Chosen(0.05),
                "clip_norm": Chosen(1),
            },
        }
    return {
        "optim": {
            "lr": Chosen(2e-6, "of CLIP's parts; those that X-CLIP adds learn ten times as fast"),
            "clip_norm": Chosen(1),
        }
    }


def _balance(clips: Set) -> dict[str, Chosen | Values]:
    least, most = min(clips.per_label), max(clips.per_label)
    if most <= UNEQUAL * least:
        return {}
    return {"balance": Chosen("sampler", f"{least} to {most} clips for a label")}


def _cache(run: Path, clips: Set, network: Network, machine: Machine) -> dict[str, Chosen | Values]:
    """Keep decoded frames where they fit."""
    frame = network.image_size**2 * 3 * 16 // 9
    size = (clips.train * CACHED_FRAMES + clips.val * network.frames) * frame
    if size > min(MOST_CACHED, machine.disk // 4):
        return {}
    why = f"clips are decoded once; at most {size / 1e9:.1f} GB"
    return {"cache": {"folder": Chosen(str(run / "frames"), why), "frames": Chosen(CACHED_FRAMES)}}


def _no_augmentation() -> dict[str, Chosen | Values]:
    return {
        "frames": Chosen("evenly", "what is encoded once cannot change"),
        "scales": Chosen([1.0]),
        "positions": Chosen("centre"),
        "flip": Chosen(0),
        "jitter": Chosen(0),
        "grey": Chosen(0),
    }


def _augment(clips: Set) -> dict[str, Chosen | Values]:
    """Leave alone what the labels tell apart."""
    sides, colours = naming(clips.texts, SIDES), naming(clips.texts, COLOURS)
    values: dict[str, Chosen | Values] = {"scales": Chosen([1.0, 0.9, 0.8])}
    if sides:
        values["flip"] = Chosen(0, f"labels tell sides apart: {named(sides, 2)}")
    if colours:
        why = f"labels name colours: {named(colours, 2)}"
        values |= {"jitter": Chosen(0, why), "grey": Chosen(0)}
    return values


def remarks(values: Values) -> list[str]:
    """Say aloud what augmentation leaves alone, and why."""
    augment = values["augment"]
    assert isinstance(augment, Mapping)
    said = {"flip": "clips are not mirrored", "jitter": "colours are not changed"}
    return [
        f"{text}: {chosen.why}"
        for key, text in said.items()
        if isinstance(chosen := augment.get(key), Chosen) and chosen.why
    ]


def as_yaml(values: Values, heading: str) -> str:
    """Write the settings as a file that `python -m model.train` takes, reasons as comments."""
    lines = [f"# {line}".rstrip() for line in textwrap.dedent(heading).strip().splitlines()]
    return "\n".join([*lines, *_lines(values, "")]) + "\n"


def _lines(values: Values, indent: str) -> list[str]:
    lines = []
    for key, value in values.items():
        if isinstance(value, Chosen):
            text = yaml.safe_dump(value.value, default_flow_style=True, width=10_000)
            comment = f"  # {value.why}" if value.why else ""
            shown = text.removesuffix("\n").removesuffix("\n...")
            lines.append(f"{indent}{key}: {shown}{comment}")
        else:
            lines += [f"{indent}{key}:", *_lines(value, f"{indent}  ")]
    return lines


def as_values(values: Values) -> dict[str, Any]:
    """Return the settings as plain values."""
    return {
        key: value.value if isinstance(value, Chosen) else as_values(value)
        for key, value in values.items()
    }
