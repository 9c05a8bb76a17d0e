"""The parts of a training run, made from its configuration."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from model.data.frames.order import Plan
from model.data.frames.reading import TestClips, TrainingClips
from model.data.lists.cliplist import ClipList, read_clips
from model.data.lists.labels import read_labels
from model.evaluate.scorer import TorchScorer, encode_texts
from model.inputs.text.labels import PLACE
from model.processes import Processes, allow_tf32, multiplies_bf16
from model.train.best import Best
from model.train.broken import BrokenClips
from model.train.clips import training_clips, validation_clips
from model.train.config import TrainConfig
from model.train.errors import TrainError
from model.train.features import (
    FeatureComparison,
    FeatureScorer,
    training_rows,
    validation_rows,
)
from model.train.groups import freeze_text, freeze_vision, parameter_groups
from model.train.initial_model import InitialModel, make_initial_model
from model.train.objective import Comparison, Objective, Texts, tokenised
from model.train.resume import check_same_run, restore, templates_of
from model.train.schedule import Schedule
from model.train.small_sets import fit_batch
from model.train.snapshots import Snapshots
from model.train.teacher import teacher_answers
from model.train.update import Updater

SNAPSHOTS = "snapshots"


@dataclass(frozen=True)
class Run:
    """Everything that the loop works with; `first` is the update that it begins at."""

    config: TrainConfig
    processes: Processes
    initial: InitialModel
    training: TrainingClips
    validation: TestClips | None
    updater: Updater
    snapshots: Snapshots
    broken: BrokenClips
    best: Best
    first: int
    notes: tuple[str, ...]

    @property
    def plan(self) -> Plan:
        """How the list is cut into updates."""
        return self.updater.plan

    @property
    def updates(self) -> int:
        """Length of the run."""
        return self.updater.schedule.updates

    @property
    def name(self) -> str:
        """Of the trained network."""
        return self.config.name or self.config.output.resolve().name

    @property
    def templates(self) -> tuple[str, ...]:
        """The prompts that the trained network carries; none: bare labels."""
        return templates_of(self.config)

    def save_due(self, done: int) -> bool:
        """Tell whether a snapshot is due after so many updates."""
        saving = self.config.save
        each = (saving.every_epochs * self.plan.updates_per_epoch, saving.every_updates)
        return done == self.updates or any(n and done % n == 0 for n in each)

    def evaluation_due(self, done: int) -> bool:
        """Tell whether accuracy is to be measured after so many updates, and is not yet."""
        each = self.config.evaluate.every_epochs * self.plan.updates_per_epoch
        if self.validation is None or self.best.measured == done:
            return False
        if done == 0:
            return self.config.evaluate.at_start
        return done == self.updates or done % each == 0

    def take_best(self) -> bool:
        """Go back to the best network there was; tell whether it is another than the present."""
        update = self.best.update
        if update is None or update == self.best.measured:
            return False
        if update:
            weights = self.snapshots.read(update).weights
        else:
            weights = make_initial_model(self.config.start, self.config.seed).net.state_dict()
        self.initial.net.load_state_dict(weights)
        return True

    def summary(self) -> str:
        """Describe the run in a line."""
        clips, plan = self.training.clips, self.plan
        trained = sum(p.numel() for g in self.updater.groups for p in g.parameters.values())
        return (
            f"{len(clips)} clips of {len(clips.labels)} labels; {self.updates} updates of "
            f"{plan.batch} clips, {plan.micro_batch} at a time in {plan.processes} "
            f"process{'es' * (plan.processes > 1)} on {self._device()}; "
            f"{trained / 1e6:.1f} million weights are trained"
        )

    def _device(self) -> str:
        device = self.processes.device
        if device.type != "cpu":
            return str(device)
        threads = torch.get_num_threads()
        return f"cpu with {threads} thread{'s' * (threads > 1)} each"

    def scorer(self) -> TorchScorer:
        """Return the network as it is now, for evaluation."""
        return (FeatureScorer if self.config.cache.features else TorchScorer)(
            self.initial.net,
            self.initial.tokenizer,
            device=self.processes.device,
            precision=self.config.compute.precision,
            templates=self.templates,
        )


def prepare(config: TrainConfig, processes: Processes) -> Run:
    """Read the data, make the network, go back to the last snapshot where there is one."""
    if config.compute.threads is not None:
        torch.set_num_threads(config.compute.threads)
    allow_tf32(config.compute.tf32)
    labels = read_labels(config.data.labels) if config.data.labels else None
    taught = config.loss.teacher is not None
    clips = read_clips(config.data.train, config.data.root, labels, unlabelled=taught)
    if config.loss.over == "labels":
        _check_labels(clips, config)
    config, fitted = fit_batch(config, len(clips), processes.count)
    plan = _plan(config, clips, processes)
    _check_mixing(config, plan)
    initial = make_initial_model(config.start, config.seed)
    config = _settled(config, processes.device, initial)
    check_same_run(config)
    snapshots = Snapshots(config.output / SNAPSHOTS, config.save.keep)
    updater = _updater(config, processes, initial, clips, plan)
    best = Best(config.save.best, config.schedule.patience)
    first, known, warnings = restore(snapshots, initial.net, updater, best)
    training = training_clips(config, clips, initial.net.inputs, processes)
    validation = validation_clips(config, clips.labels, initial.net.inputs, processes)
    if config.cache.features:
        training = training_rows(config, initial.net, training, processes)
        if validation is not None:
            validation = validation_rows(config, initial.net, validation, processes)
        # Nothing is left to decode.
        config = config.model_copy(update={"data": config.data.model_copy(update={"workers": 0})})
    notes = [*initial.notes, *([fitted] if fitted else [])]
    if clips.unlabelled:
        notes.append(f"{clips.unlabelled} clips have no label: the teacher answers for them")
    return Run(
        config,
        processes,
        initial,
        training,
        validation,
        updater,
        snapshots,
        BrokenClips(len(clips), config.data.max_broken_share, known),
        best,
        first,
        (*notes, *warnings),
    )


def _settled(config: TrainConfig, device: torch.device, initial: InitialModel) -> TrainConfig:
    """Put in what defaults stand for here, which is then part of what the run is."""
    precision = config.compute.precision
    if precision == "auto":
        precision = "bf16" if multiplies_bf16(device) else "fp32"
    changes = {
        "compute": config.compute.model_copy(update={"precision": precision}),
        "data": config.data.model_copy(update={"template": _template(config, initial)}),
    }
    return config.model_copy(update=changes)


def _template(config: TrainConfig, initial: InitialModel) -> str:
    if config.data.template is not None:
        return config.data.template
    if len(initial.templates) > 1:
        raise TrainError(
            f"{config.start.source} reads labels through {len(initial.templates)} templates, a "
            "training has one: set data.template"
        )
    return initial.templates[0] if initial.templates else PLACE


def _plan(config: TrainConfig, clips: ClipList, processes: Processes) -> Plan:
    size, count = config.batch.size, processes.count
    micro = config.batch.per_process or max(size // count, 1)
    balanced = config.data.balance == "sampler"
    classes = tuple(sample.label for sample in clips.samples) if balanced else ()
    return Plan(len(clips), size, micro, count, config.seed, classes)


def _check_labels(clips: ClipList, config: TrainConfig) -> None:
    if clips.unlabelled:
        if config.data.balance != "none":
            raise TrainError(
                f"data.balance {config.data.balance} counts clips by label, and {clips.unlabelled} "
                "have none: set it to none"
            )
        return  # the teacher may show the others
    counts = clips.per_class()
    empty = [name for name, n in zip(clips.labels.names, counts, strict=True) if not n]
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise TrainError(
            f"label {empty[0]!r}{more} has no clip in data.train: add clips, or take it out of "
            "data.labels"
        )


def _check_mixing(config: TrainConfig, plan: Plan) -> None:
    group = config.mixing.group
    if group and plan.micro_batch % group:
        raise TrainError(
            f"mixing.group {group} does not divide the {plan.micro_batch} clips of a micro-batch"
        )


def _updater(
    config: TrainConfig, processes: Processes, initial: InitialModel, clips: ClipList, plan: Plan
) -> Updater:
    net = initial.net.to(processes.device).train()
    net.visual.checkpoint_segments = config.compute.checkpoint_segments
    if config.compute.channels_last:
        net.visual.conv1.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    freeze_text(net, config.text == "trainable")
    if config.vision == "frozen":
        freeze_vision(net)
    groups = parameter_groups(net, config.optim)
    if not groups:
        raise TrainError(
            "nothing is left to train: text and vision are frozen, and the network has no other "
            "parts; set text or vision to trainable"
        )
    processes.follow_first(net.state_dict().values())
    comparison: nn.Module = (FeatureComparison if config.cache.features else Comparison)(net)
    if config.compute.compile:
        comparison = torch.compile(comparison)  # type: ignore[assignment]
    return Updater(
        config,
        processes,
        comparison,
        groups,
        net.inputs,
        Objective(
            clips,
            _texts(config, processes, initial, clips),
            config.loss,
            config.seed,
            teacher_answers(config, clips, processes),
        ),
        plan,
        Schedule(config.schedule, plan.updates_per_epoch, plan.micro_batches),
    )


def _texts(
    config: TrainConfig, processes: Processes, initial: InitialModel, clips: ClipList
) -> Texts:
    assert config.data.template is not None, "settled by now"
    ids = torch.from_numpy(
        tokenised(clips, config.data.template, initial.tokenizer, initial.net.inputs)
    ).to(processes.device)
    frozen = config.text == "frozen"
    return Texts(ids, encode_texts(initial.net, ids) if frozen else None)
