"""Going on with a run: the same configuration, the last good snapshot."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import yaml

from model.checkpoints.native import save_checkpoint
from model.inputs import check_templates
from model.network.xclip import XClip
from model.train.best import Best
from model.train.broken import BrokenClips
from model.train.config import StartConfig, TrainConfig
from model.train.errors import TrainError
from model.train.initial_model import InitialModel
from model.train.snapshots import Snapshots, write_state
from model.train.update import Updater

CONFIG = "config.yaml"
# What may change between the parts of one run: it has no part in what the weights become.
FREE = {
    "output", "log", "save.every_epochs", "save.every_updates", "save.keep", "evaluate",
    "compute.device", "compute.threads", "compute.compile",
    "compute.channels_last", "compute.checkpoint_segments", "data.workers", "data.prefetch",
    "data.max_broken_share", "cache", "data.val", "data.root", "data.cache.folder",
    "batch.per_process",
    "name",
}  # fmt: skip
# What has a part where the best network is taken, or the run ends when it gets no better.
MEASURING = {"data.val", "evaluate"}


def check_same_run(config: TrainConfig) -> None:
    """Raise TrainError where the folder holds a run with another configuration."""
    try:
        before = yaml.safe_load((config.output / CONFIG).read_text(encoding="utf-8"))
    except (FileNotFoundError, yaml.YAMLError, UnicodeDecodeError):
        return  # where it is damaged the snapshot's own copy is compared
    if isinstance(before, Mapping):
        _refuse_another(config, before)


def _refuse_another(config: TrainConfig, before: Mapping[str, Any]) -> None:
    # A key that the run's version did not know yet stood at its default, whatever it is.
    plain = TrainConfig(output=config.output, start=StartConfig(source="-"))
    before = _filled(before, plain.model_dump(mode="json"))
    now = config.model_dump(mode="json")
    may_change = FREE - MEASURING if config.save.best else FREE
    for key, (old, new) in _differences(before, now).items():
        if not any(key == free or key.startswith(f"{free}.") for free in may_change):
            raise TrainError(
                f"{config.output} holds a run with {key} {old!r}, now it is {new!r}: give another "
                "--output, or delete that folder to start over"
            )


def write_config(config: TrainConfig) -> None:
    """Write the whole configuration, defaults included, beside the run; whole or as it was."""
    config.output.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    draft = config.output / f"{CONFIG}.draft"
    draft.write_text(text, encoding="utf-8")
    os.replace(draft, config.output / CONFIG)


def templates_of(config: TrainConfig) -> tuple[str, ...]:
    """Give the prompts that a network of this run carries; none: bare labels.

    TrainError for a template without its one `{}`.
    """
    try:
        return () if config.data.template is None else check_templates([config.data.template])
    except ValueError as error:
        raise TrainError(f"data.template: {error}") from None


def save(
    snapshots: Snapshots,
    done: int,
    initial: InitialModel,
    updater: Updater,
    broken: BrokenClips,
    name: str,
    best: Best,
) -> None:
    """Write a snapshot after `done` updates."""
    with snapshots.writing(done, best.update) as draft:
        save_checkpoint(
            initial.net,
            draft,
            tokenizer=initial.tokenizer if initial.own_tokenizer else None,
            name=name,
            source=initial.source,
            templates=templates_of(updater.config),
        )
        write_state(
            draft,
            {
                "updates": done,
                "optimizers": [optimizer.state_dict() for optimizer in updater.optimizers],
                "scaler": updater.scaler.state_dict(),
                "seed": updater.config.seed,
                "broken": dict(broken.reasons),
                "best": best.state(),
                "config": updater.config.model_dump(mode="json"),
            },
        )


def restore(
    snapshots: Snapshots, net: XClip, updater: Updater, best: Best
) -> tuple[int, dict[str, str], list[str]]:
    """Go back to the last good snapshot: updates done, broken clips known, warnings.

    The order of clips and all random numbers follow from the seed and the number of the update,
    so they need no state of their own.
    """
    snapshot, warnings = snapshots.newest()
    if snapshot is None:
        return 0, {}, warnings
    _refuse_another(updater.config, snapshot.state["config"])
    net.load_state_dict(snapshot.weights)
    for optimizer, state in zip(updater.optimizers, snapshot.state["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    updater.scaler.load_state_dict(snapshot.state["scaler"])
    done = snapshot.state["updates"]
    best.restore(snapshot.state.get("best", {"measured": done}))
    warnings.append(f"going on after update {done}, from {snapshot.folder}")
    return done, snapshot.state["broken"], warnings


def _filled(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Fill what `given` lacks from `defaults`, section by section."""
    filled = {**defaults, **given}
    for key, default in defaults.items():
        if isinstance(default, Mapping) and isinstance(filled[key], Mapping):
            filled[key] = _filled(filled[key], default)
    return filled


def _differences(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    differences: dict[str, tuple[Any, Any]] = {}
    for key in dict.fromkeys((*before, *now)):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            differences |= _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            differences[prefix + key] = (old, new)
    return differences
