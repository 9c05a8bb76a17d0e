"""Our stand-in for `kustomize build` against the real one, where that is installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.deploy.kustomize import Manifest, build
from tests.deploy.test_custom_resources import FOLDERS
from tests.deploy.test_kubernetes import FOLDER, OVERLAYS, with_component

COMPONENTS = sorted(path.name for path in (FOLDER / "components").iterdir())


def ordered(manifests: list[Manifest]) -> list[Manifest]:
    return sorted(manifests, key=lambda m: (m["kind"], m["metadata"]["name"]))


def real(folder: Path) -> list[Manifest]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("name", [*(f"overlays/{overlay}" for overlay in OVERLAYS), *FOLDERS])
def test_folders_are_built_alike(name: str) -> None:
    assert ordered(build(FOLDER / name)) == ordered(real(FOLDER / name))


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("name", COMPONENTS)
def test_components_are_built_alike(name: str, tmp_path: Path) -> None:
    folder = with_component(name, tmp_path)
    assert ordered(build(folder)) == ordered(real(folder))
