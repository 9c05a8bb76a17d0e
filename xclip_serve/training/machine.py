"""What there is to train on: cores, memory that is free, room on the disk, a GPU."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

GROUPS = Path("/sys/fs/cgroup")
KEPT_FILES = ("active_file ", "inactive_file ")


@dataclass(frozen=True)
class Machine:
    """What training runs on. `memory`, of the GPU where there is one, and `disk` are free bytes."""

    gpu: bool
    cores: int
    memory: int
    disk: int


def this_machine(run: Path) -> Machine:
    """Look at the machine, and at the disk that the folder of a run is on, or will be."""
    there = next(path for path in (run, *run.resolve().parents) if path.exists())
    gpu = torch.cuda.is_available()
    memory = torch.cuda.mem_get_info()[0] if gpu else _free_memory()
    return Machine(gpu, cores(), memory, shutil.disk_usage(there).free)


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _free_memory() -> int:
    """Return what the system has left for programs, or the container, where that is less."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    system = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    own = Path("/proc/self/cgroup").read_text(encoding="utf-8").rpartition("0::/")[2].strip()
    return min([system, *free_in_groups(GROUPS / own, GROUPS)])


def free_in_groups(group: Path, top: Path) -> list[int]:
    """Return what each limit on a control group (version 2), or on one above it, leaves free.

    Files that are kept in memory count as free: they give way.
    """
    free = []
    for folder in (group, *group.parents):
        try:
            limit = (folder / "memory.max").read_text(encoding="ascii").strip()
            if limit != "max":
                used = int((folder / "memory.current").read_text(encoding="ascii"))
                lines = (folder / "memory.stat").read_text(encoding="ascii").splitlines()
                files = sum(int(line.split()[1]) for line in lines if line.startswith(KEPT_FILES))
                free.append(max(int(limit) - used + files, 0))
        except OSError:  # the top has none, and version 1 other names
            pass
        if folder == top:
            break
    return free
