"""How many processors this process may really use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def allowed_cpus() -> int:
    """Count the processors in the affinity mask of this process, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_cpus(cgroups: Path = CGROUPS, own_groups: Path = OWN_GROUPS) -> int:
    """Count the processors of the affinity mask, cut to the CPU quota rounded up, at least 1.

    `os.cpu_count` sees the whole machine: a container with 2 of 64 cores would start 64 threads
    and be throttled.
    """
    quotas = [allowed_cpus(), *_quotas(cgroups, own_groups)]
    return max(1, min(math.ceil(quota) for quota in quotas))


def _quotas(cgroups: Path, own_groups: Path) -> list[float]:
    """Read the CPU quotas of this process's cgroup and all above it, version 1 and 2."""
    quotas: list[float | None] = []
    for line in _read(own_groups).splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = cgroups / "cpu" if controllers else cgroups
        folder = root / group.lstrip("/")
        # Inside a container the group's own path may not be mounted; the root then is the group.
        groups = {root, folder, *(p for p in folder.parents if p.is_relative_to(root))}
        quotas += [_quota_v1(group) if controllers else _quota_v2(group) for group in groups]
    return [quota for quota in quotas if quota is not None]


def _quota_v2(folder: Path) -> float | None:
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return _ratio(quota, period)


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    try:
        microseconds, per = int(quota), int(period)
    except ValueError:  # "max", or no such file
        return None
    return microseconds / per if microseconds > 0 and per > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
