"""Before a training: clips found and looked at, settings chosen, the time it takes told."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from model.data.check.check import Findings, check
from model.data.config import DataConfig
from model.data.lists.cliplist import ClipList
from model.data.lists.folders import LABELS
from model.network.config import ModelConfig
from model.progress import progress
from model.train.config import StartConfig
from model.train.initial_model import InitialModel, make_initial_model
from model.train.settings import read_config
from xclip_serve.training import clips as sets
from xclip_serve.training.estimate import Pace, duration, measure
from xclip_serve.training.machine import cores, this_machine
from xclip_serve.training.settings import (
    Network,
    Preset,
    Set,
    Values,
    as_yaml,
    choose,
    epochs_for,
    evaluations_every,
    preset_for,
    remarks,
)

SETTINGS, LISTS = "train.yaml", "lists"
# Of each number between layers, for the way back in fp32: a B/32 takes 215 MB a clip, 263 by this.
TRAINED_BYTES = 70
HEADING = """\
Made by xclip-serve train from {train} clips of {labels} labels. Change what you like, then

  python -m model.train --config {file}

Every key that there is, with its default: python -m model.train --help
"""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What a person asked for; None: chosen here."""

    clips: sets.Source
    start: str
    preset: Preset | None = None
    epochs: int | None = None
    minutes: int | None = None
    trainings: int = 1
    """How often the clips are trained on in these minutes: once more than there are folds."""


def prepare_run(request: Request, run: Path, say: Say) -> None:
    """Write lists and settings of a run into its folder, and say what was decided.

    Raises:
        ValueError: What cannot be used, and what to do.
        OSError: The folder cannot be written.
    """
    found = sets.with_texts(sets.found(request.clips), run / LISTS)
    initial = make_initial_model(StartConfig(source=request.start), seed=0)
    clips = sets.checked(found, lambda every: _looked_at(every, initial))
    split = clips.split
    for note in split.notes:
        say(note)
    test = f", {len(split.test)} to test on" if split.test else ""
    say(
        f"{len(split.labels)} labels: {len(split.train)} clips to train on, {len(split.val)} to "
        f"measure accuracy on{test}; {_grouping(request.clips.group_by, split.held_back)}"
    )
    sets.write(clips, run / LISTS)
    say(f"what the network reads for each label: column text of {run / LISTS / LABELS}")
    _choose(request, run, clips, initial, say)


def _grouping(rule: str, held_back: bool) -> str:
    if not held_back:
        return "as they are given"
    if rule == "none":
        return "each file counts as a video of its own (--group-by none)"
    return f"cuts of one video are on one side, told by --group-by {rule}"


def _looked_at(clips: ClipList, initial: InitialModel) -> Findings:
    config = DataConfig(workers=min(max(cores() - 1, 1), 8))
    with progress("looking at clips", len(clips)) as on_clip:
        return check(clips, None, initial.net.inputs, initial.tokenizer, config, on_clip)


def _choose(
    request: Request, run: Path, clips: sets.Clips, initial: InitialModel, say: Say
) -> None:
    """Choose settings, time two updates, and cut the run to the time there is."""
    config, split, machine = initial.net.config, clips.split, this_machine(run)
    network = Network(
        request.start,
        config.vision_width,
        config.image_size,
        config.num_frames,
        _clip_bytes(config),
    )
    per_label = tuple(clips.part(split.train).per_class())
    size = Set(len(split.train), len(split.val), split.labels.texts, per_label)
    preset = request.preset or preset_for(network, machine)
    epochs = request.epochs or epochs_for(network, size)
    files = {**sets.lists(run / LISTS), "labels": run / LISTS / LABELS}

    def chosen(epochs: int) -> Values:
        return choose(run, files, clips.root, size, network, machine, preset, epochs)

    values = chosen(epochs)
    for remark in remarks(values):
        say(remark)
    _write(values, run, size)
    settings = read_config(["--config", str(run / SETTINGS)])
    pace = measure(settings, size.val)
    if request.minutes is not None:
        fitting = epochs_within(60 * request.minutes / request.trainings, pace, epochs)
        if fitting < epochs:
            epochs = fitting
            _write(chosen(epochs), run, size)
    seconds = request.trainings * pace.seconds(epochs, evaluations_every(epochs))
    times = f", {request.trainings} times" if request.trainings > 1 else ""
    say(f"settings, with reasons: {run / SETTINGS}")
    say(
        f"two updates took {2 * pace.update_s:.1f} s: {epochs} epochs{times} take about "
        f"{duration(seconds)} at most, sooner where it gets no better; then the bundle is made"
    )


def _clip_bytes(config: ModelConfig) -> int:
    """Estimate what a clip takes in memory while the vision tower is trained."""
    tokens = config.num_frames * (config.num_patches + 2)  # its class, and its message
    return TRAINED_BYTES * tokens * config.vision_width * config.vision_layers


def epochs_within(seconds: float, pace: Pace, most: int) -> int:
    """Return as many epochs as can be trained and measured in this time, one at least."""
    fits = (n for n in range(most, 0, -1) if pace.seconds(n, evaluations_every(n)) <= seconds)
    return next(fits, 1)


def _write(values: Values, run: Path, size: Set) -> None:
    file = run / SETTINGS
    heading = HEADING.format(train=size.train, labels=len(size.texts), file=file)
    draft = run / f".{SETTINGS}.draft-{os.getpid()}"
    draft.write_text(as_yaml(values, heading), encoding="utf-8")
    os.replace(draft, file)
