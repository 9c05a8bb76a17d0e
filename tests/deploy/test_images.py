"""The Dockerfile and the locks that it installs from."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
LOCKS = [ROOT / "deploy" / f"requirements-{kind}.lock" for kind in ("cpu", "gpu")]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(file: Path) -> dict[str, str]:
    return {canonical(name): version for name, version in PIN.findall(file.read_text())}


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    checked = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_default_image_is_the_one_for_processors() -> None:
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert stages[-1] == ("server", "cpu")
    assert {"cpu", "gpu", "export"} <= {name for _, name in stages}
    bases = [source for source, _ in stages if source not in {name for _, name in stages}]
    assert bases == ["${BASE}"], "every image stands on the one base"


def test_the_server_runs_as_nobody_and_hears_signals() -> None:
    server = DOCKERFILE.partition("FROM base AS server")[2]
    assert re.search(r"^USER 10001:10001$", server, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["python", "-m", "service"\]$', server, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in server
    assert "HEALTHCHECK" in server


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_holds_every_package_to_its_hashes(lock: Path) -> None:
    text = lock.read_text()
    entries = re.split(
        r"^(?=[A-Za-z0-9])", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE
    )
    entries = [entry for entry in entries if entry.strip()]
    assert len(entries) == len(pins(lock))
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text, "a lock names no package index"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_agrees_with_the_constraints(lock: Path) -> None:
    constraints = pins(ROOT / "constraints.txt")
    locked = pins(lock)
    differing = {n: (v, constraints[n]) for n, v in locked.items() if constraints.get(n, v) != v}
    assert not differing, "run: make lock"


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.stem)
def test_a_lock_has_what_the_project_asks_for_and_no_torch(lock: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    kind = lock.stem.removeprefix("requirements-")
    extras = project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras[kind], *extras["s3"], *extras["tracing"]]
    names = {canonical(re.split(r"[\[;<>=! ]", entry)[0]) for entry in wanted}
    assert names <= set(pins(lock)), "run: make lock"
    assert not {"torch", "torchvision", "transformers"} & set(pins(lock))


def test_the_build_sees_only_what_it_copies() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    sources = {
        source.split("/")[0]
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    allowed = {rule[1:].split("/")[0] for rule in rules if rule.startswith("!")}
    assert sources == allowed


def test_the_server_without_torch_makes_tables_too(tmp_path: Path) -> None:
    """With the files that its image has and no others: pods of a job run `batch` in it."""
    app = tmp_path / "app"
    stage = re.split(r"^FROM .* AS code$", DOCKERFILE, flags=re.MULTILINE)[1].partition("FROM ")[0]
    for line in re.findall(r"^COPY (?!--from)(.+)$", stage, re.MULTILINE):
        *sources, target = line.split()
        for source in map(ROOT.joinpath, sources):
            place = app / target if target[-1] != "/" else app / target / source.name
            place.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, place)
    (app / "torch.py").write_text("raise ModuleNotFoundError('no torch here', name='torch')\n")
    table = tmp_path / "table.csv"
    command = [sys.executable, "-m", "xclip_serve", "batch", str(ROOT / "docs" / "clip.mp4")]
    done = subprocess.run(
        [*command, "--label", "a red circle", "--shard", "1/1", "--output", str(table)],
        cwd=app,
        env=os.environ | {"PYTHONPATH": str(app), "XCLIP_RUNTIME": "onnxruntime-cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "a red circle" in table.read_text()
