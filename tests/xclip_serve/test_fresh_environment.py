"""As a newcomer: an empty environment, and what the README says. Needs a package index."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, missing
from tests.xclip_serve.conftest import LABELS
from tests.xclip_serve.test_page import blocks

pytestmark = pytest.mark.long
PINNED = {"PIP_CONSTRAINT": str(ROOT / "constraints.txt"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a clone would hold."""
    folder = tmp_path_factory.mktemp("checkout")
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a shell in which an empty environment is active."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    made = subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True, text=True)
    if made.returncode:
        missing(f"the module venv ({made.stderr.strip()[-200:]})")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "XCLIP_"))}
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**kept, **PINNED, "PATH": path, "XCLIP_CACHE": str(folder / "cache")}


def test_the_first_block_of_the_readme(checkout: Path, environment: dict[str, str]) -> None:
    first = blocks("README.md", "sh")[0]
    done = subprocess.run(
        ["bash", "-e", "-c", first], cwd=checkout, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answer = [line.split("\t") for line in done.stdout.splitlines()[-2:]]
    assert [label for _, label in answer] == LABELS
    assert [float(score) for score, _ in answer] == pytest.approx([0.991, 0.009], abs=1e-3)
    packages = subprocess.run(
        ["pip", "list", "--format=freeze"], env=environment, capture_output=True, text=True
    ).stdout
    assert re.search(r"^xclip-serve==", packages, re.MULTILINE)
    assert not re.search(r"^torch", packages, re.MULTILINE)


def test_the_second_block_of_the_readme_serves(checkout: Path, environment: dict[str, str]) -> None:
    """On a port that is free."""
    second = blocks("README.md", "sh")[1].partition("#")[0].strip()
    assert second == "xclip-serve serve"
    answers(second.split(), checkout, {**environment, "XCLIP_PORT": "0"})


def test_make_serve_sets_itself_up(checkout: Path, environment: dict[str, str]) -> None:
    answers(["make", "serve", "PORT=0"], checkout, environment)


def answers(command: list[str], checkout: Path, environment: dict[str, str]) -> None:
    """Start a server, ask it, stop it."""
    with subprocess.Popen(
        command, cwd=checkout, env=environment, text=True,
        stdout=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if ready := re.search(r"(http://127\.0\.0\.1:\d+) is ready: shapes-demo", line):
                break
        else:
            pytest.fail(f"{command} ended with {process.wait()}")
        asked = ["xclip-serve", "classify", "docs/clip.mp4", *LABELS, "--server", ready[1]]
        done = subprocess.run(
            asked, cwd=checkout, env=environment, capture_output=True, text=True, check=True
        )
        os.killpg(process.pid, signal.SIGTERM)
    assert done.stdout.splitlines()[0].endswith(LABELS[0])
