"""One optimiser update: accumulate, check, clip, step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.command_line import one_line
from model.data.frames.loading import Batch
from model.data.frames.order import Plan
from model.data.frames.streams import Stream, generator
from model.evaluate.scorer import autocast
from model.inputs import InputSpec
from model.network.pixels import NormalisePixels
from model.processes import Processes
from model.train.config import TrainConfig
from model.train.device_prefetch import DevicePrefetch
from model.train.errors import OutOfMemory, TrainError
from model.train.groups import Group
from model.train.losses import cross_entropy
from model.train.mixing import draw_mix, mix
from model.train.objective import Objective
from model.train.optimizers import make_optimizers
from model.train.schedule import Schedule

NAMED_IN_ERROR = 8


@dataclass(frozen=True)
class Outcome:
    """What an update did: mean loss over its clips, norm of the gradient, base learning rate."""

    loss: float
    grad_norm: float
    lr: float


class Updater:
    """Holds what an update needs; its own state is that of the optimiser and the scaler.

    All random numbers of an update follow from the seed and its number, so a run that went on
    from a snapshot draws what an unbroken run would have drawn.
    """

    def __init__(
        self,
        config: TrainConfig,
        processes: Processes,
        comparison: nn.Module,
        groups: list[Group],
        spec: InputSpec,
        objective: Objective,
        plan: Plan,
        schedule: Schedule,
    ) -> None:
        self.config, self.processes, self.spec = config, processes, spec
        self.comparison, self.objective = comparison, objective
        self.plan, self.schedule, self.groups = plan, schedule, groups
        self.optimizers = make_optimizers(groups, config.optim)
        self._prefetch = DevicePrefetch(processes.device)
        self._normalise: nn.Module = (
            nn.Identity() if config.cache.features else NormalisePixels(spec)
        ).to(processes.device)
        self._weights = _weights(objective, config, processes)
        self._begun: Batch | None = None
        self.scaler = torch.amp.GradScaler(
            processes.device.type, enabled=config.compute.precision == "fp16"
        )

    def update(self, number: int, batches: Iterator[Batch]) -> Outcome:
        """Take the next micro-batches and change the weights; before it would be with a loss that
        is not finite, TrainError, and where one of the micro-batches does not fit, OutOfMemory.
        """
        self._set_rates(number)
        own = generator(self.config.seed, Stream.TORCH, number, self.processes.rank)
        torch.manual_seed(int(own.integers(1 << 62)))
        taken, losses = [], []
        failure = ""
        for turn in range(self.plan.micro_batches):
            batch = self._next(batches)
            last = turn + 1 == self.plan.micro_batches
            compared = self.objective.candidates(batch, number, self.processes)
            if failure:
                continue  # the others are helped to choose their texts, no more
            taken.append(batch.indices)
            try:
                losses.append(self._accumulate(number, turn, batch, *compared))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                failure = one_line(error).partition(". ")[0]
            self._begin_next(number, last, batches)
        # Outside of the handler, whose traceback holds the tensors that are in the way.
        self._check_memory(failure)
        self.processes.average([p.grad for p in self._parameters if p.grad is not None])
        clips = torch.cat(losses)
        total, norm = clips.sum(dtype=torch.float64), self._gradient_norm()
        # Read together: each reading waits for all that the GPU has been given to do.
        measured = torch.stack([self.processes.reduced(total), norm.double()]).tolist()
        loss = self._checked(number, taken, clips, measured[0] / self.plan.batch)
        self._step(number, norm, finite=bool(np.isfinite(measured[1])))
        rate = self.schedule.rate(number, self.config.optim.lr, self._lowest)
        return Outcome(loss, measured[1], rate)

    def halve(self) -> bool:
        """Take half as many clips at a time from the update at hand on, which is begun anew.

        The clips of an update and the rates stay as they are. False where it cannot be less.
        """
        share = self.plan.batch // self.plan.processes
        step = self.config.mixing.group or 1
        fewer = [n for n in range(step, self.plan.micro_batch // 2 + 1, step) if share % n == 0]
        if not fewer:
            return False
        self.plan = replace(self.plan, micro_batch=fewer[-1])
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        self._begun = None
        if self.processes.device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    def _check_memory(self, failure: str) -> None:
        """Raise OutOfMemory in every process where one of them says what did not fit."""
        if self.processes.summed(torch.tensor(int(bool(failure)))):
            raise OutOfMemory(next(filter(None, self.processes.collected(failure))))

    def _next(self, batches: Iterator[Batch]) -> Batch:
        """Take the micro-batch that was begun, or else the next one, on the device."""
        batch, self._begun = self._begun or self._prefetch.begin(next(batches)), None
        self._prefetch.wait(batch)
        return batch

    def _begin_next(self, number: int, last: bool, batches: Iterator[Batch]) -> None:
        """Begin the next micro-batch, of this update or the one after it, while the GPU works."""
        if self._prefetch.ahead and not (last and number + 1 == self.schedule.updates):
            following = next(batches, None)
            self._begun = None if following is None else self._prefetch.begin(following)

    @property
    def _lowest(self) -> float:
        return self.config.optim.lr * self.config.schedule.min_factor

    def _set_rates(self, number: int) -> None:
        for options in (o for optimizer in self.optimizers for o in optimizer.param_groups):
            peak = self.config.optim.lr * options["lr_factor"]
            options["lr"] = self.schedule.rate(number, peak, self._lowest)

    def _accumulate(
        self, number: int, turn: int, batch: Batch, text: Tensor, right: Tensor
    ) -> Tensor:
        """Add the gradient of a micro-batch; the losses of its clips (B,)."""
        device = self.processes.device
        targets = self.objective.targets(batch, right)
        frames = self._normalise(batch.frames)
        frames, targets = mix(frames, targets, self._mixes(number, turn, len(frames)))
        with autocast(device, self.config.compute.precision):
            logits = self.comparison(frames, text)
        losses = cross_entropy(logits, targets)
        if self._weights is not None:
            losses = losses * self._weights[batch.labels.to(device)]
        self.scaler.scale(losses.mean() / self.plan.micro_batches).backward()
        return losses.detach()

    def _mixes(self, number: int, turn: int, clips: int) -> list[Any]:
        """Return one mixing for each group, by the index of the group in the whole batch."""
        size = self.config.mixing.group or clips
        groups = clips // size
        side = self.spec.image_size
        first = (turn * self.processes.count + self.processes.rank) * groups
        draws = [
            generator(self.config.seed, Stream.MIXING, number, index)
            for index in range(first, first + groups)
        ]
        return [draw_mix(size, side, side, self.config.mixing, draw) for draw in draws]

    def _checked(self, number: int, taken: list[Tensor], losses: Tensor, mean: float) -> float:
        """Return the mean loss of the whole batch, if it is one."""
        if np.isfinite(mean):
            return mean
        names = [s.name for s in self.objective.clips.samples]
        bad = (~torch.isfinite(losses)).tolist()
        indices = torch.cat(taken).tolist()
        mine = [names[index] for index, is_bad in zip(indices, bad, strict=True) if is_bad]
        collected = [name for part in self.processes.collected(mine) for name in part]
        rest = len(collected) - NAMED_IN_ERROR
        more = f" and {rest} more" if rest > 0 else ""
        raise TrainError(
            f"in update {number} the loss is not finite, the weights stay as they were before it; "
            f"clips: {', '.join(collected[:NAMED_IN_ERROR])}{more}: lower optim.lr, give "
            "optim.clip_norm a value, or look at these clips",
            everywhere=True,
        )

    @property
    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.groups for p in group.parameters.values()]

    def _gradient_norm(self) -> Tensor:
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def _step(self, number: int, norm: Tensor, *, finite: bool) -> None:
        if not self.scaler.is_enabled() and not finite:
            raise TrainError(
                f"in update {number} the gradient is not finite, the weights stay as they were "
                "before it: lower optim.lr, or take fp32 or bf16 as compute.precision",
                everywhere=True,
            )
        limit = self.config.optim.clip_norm
        if limit is not None:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, limit, norm)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
        self.scaler.update()
        for optimizer in self.optimizers:
            optimizer.zero_grad()


def _weights(objective: Objective, config: TrainConfig, processes: Processes) -> Tensor | None:
    """Return the weight of each label's clips, 1 in the mean over all clips; None: all are 1."""
    if config.data.balance != "loss":
        return None
    counts = torch.tensor(objective.clips.per_class(), dtype=torch.float32)
    shares = counts.sum() / (counts > 0).sum()
    return (shares / counts.clamp(min=1)).to(processes.device)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether a device, or the processor, had no memory left for a tensor."""
    text = str(error)
    said = ("not enough memory: you tried", "allocate memory: you tried")
    return isinstance(error, torch.OutOfMemoryError) or any(part in text for part in said)
