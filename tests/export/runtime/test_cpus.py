"""How many processors: affinity and the container's quota, cgroup versions 1 and 2."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from export.runtime import cpus

QUOTA, PERIOD = "cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def groups(folder: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "own").write_text(own)
    return folder / "cgroup", folder / "own"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/", {"cpu.max": "max 100000\n"}, 8),
        ("0::/", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/", {"cpu.max": "10000 100000\n"}, 1),
        ("0::/", {"cpu.max": "6400000 100000\n"}, 8),
        ("0::/pod/app", {"pod/cpu.max": "300000 100000", "pod/app/cpu.max": "max 100000"}, 3),
        ("4:memory:/x\n3:cpu,cpuacct:/", {QUOTA: "400000", PERIOD: "100000"}, 4),
        ("3:cpu:/", {QUOTA: "-1", PERIOD: "100000"}, 8),
        ("2:cpuset:/", {QUOTA: "100000", PERIOD: "100000"}, 8),
        ("", {}, 8),
        ("0::/", {"cpu.max": "nonsense"}, 8),
    ],
)  # fmt: skip
def test_quota_cuts_the_affinity(
    tmp_path: Path, own: str, files: dict[str, str], expected: int
) -> None:
    assert cpus.available_cpus(*groups(tmp_path, own, files)) == expected


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    assert cpus.available_cpus(tmp_path / "none", tmp_path / "none") == 8


def test_affinity_counts_even_where_the_quota_is_larger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert cpus.available_cpus(*groups(tmp_path, "0::/", {"cpu.max": "400000 100000"})) == 1
