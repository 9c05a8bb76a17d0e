"""The processes of a run, started by torch's own launcher: who does what, and on which device."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

Value = TypeVar("Value")
# While one process encodes or decodes all clips for the others; torch ends the rest where one dies.
PATIENCE = timedelta(days=1)


class DeviceError(ValueError):
    """A device that is asked for and is not there."""


@dataclass(frozen=True)
class Processes:
    """This process among those of the run. A run of one needs no launcher and no network."""

    rank: int
    count: int
    device: torch.device
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    @property
    def leads_here(self) -> bool:
        """Whether this process does what one process of each machine has to do."""
        return self.local_rank == 0

    def reduced(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, on the device: nobody waits for it here."""
        if self.count > 1:
            values = values.to(self.device)
            dist.all_reduce(values)
        return values

    def summed(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, on each of them."""
        return self.reduced(values).cpu()

    def gathered(self, values: Tensor) -> Tensor:
        """Return the values of all processes one after another; each has equally many."""
        if self.count == 1:
            return values
        parts = [torch.empty_like(values, device=self.device) for _ in range(self.count)]
        dist.all_gather(parts, values.to(self.device))
        return torch.cat(parts).cpu()

    def follow_first(self, tensors: Iterable[Tensor]) -> None:
        """Put what the first process has in the place of each of these."""
        for tensor in tensors if self.count > 1 else ():
            dist.broadcast(tensor.detach(), 0)

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Put the mean over all processes in the place of each of these, which all of them have."""
        if self.count == 1 or not tensors:
            return
        together = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(together)
        together /= self.count
        parts = together.split([tensor.numel() for tensor in tensors])
        for tensor, mean in zip(tensors, parts, strict=True):
            tensor.copy_(mean.view_as(tensor))

    def collected(self, value: Value) -> list[Value]:
        """Return any value of every process, on each of them, in the order of ranks."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1:
            dist.barrier()


ALONE = Processes(0, 1, torch.device("cpu"))


def pick_device(requested: str, local_rank: int = 0) -> torch.device:
    """Return the device of that name; DeviceError where a GPU is asked for and there is none."""
    if requested == "cpu" or (requested == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceError(
            "a GPU is asked for, and torch sees no GPU here: set the device (compute.device or "
            "--device) to cpu or auto, or install a torch with CUDA and check nvidia-smi"
        )
    if local_rank >= torch.cuda.device_count():
        raise DeviceError(
            f"process {local_rank} of this machine has no GPU of its own, there are "
            f"{torch.cuda.device_count()}: start fewer with --nproc-per-node"
        )
    return torch.device("cuda", local_rank)


def multiplies_bf16(device: torch.device) -> bool:
    """Tell whether the device has instructions for bf16, rather than imitating them slowly."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return any(known.get(name) for name in ("avx512_bf16", "amx_bf16"))


def allow_tf32(allowed: bool) -> None:
    """Set whether fp32 products on a GPU may keep ten bits of each factor; torch's own rule
    differs between products (no) and convolutions (yes).
    """
    torch.set_float32_matmul_precision("high" if allowed else "highest")
    torch.backends.cudnn.allow_tf32 = allowed


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join the run that `torchrun` started; alone without it."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    mine = pick_device(device, local_rank)
    if mine.type == "cuda":
        torch.cuda.set_device(mine)
    if count == 1:
        yield Processes(0, 1, mine)
        return
    backend = "nccl" if mine.type == "cuda" else "gloo"
    store, rank, _ = next(rendezvous("env://", timeout=PATIENCE))
    # A launcher has one store for all attempts: in it stand addresses of those that were killed.
    # The count is each launcher's own: several would wait for each other in different places.
    alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if alone else "0"
    own = PrefixStore(f"attempt-{attempt}", store)
    dist.init_process_group(backend, store=own, rank=rank, world_size=count, timeout=PATIENCE)
    try:
        yield Processes(dist.get_rank(), count, mine, local_rank)
    finally:
        dist.destroy_process_group()
