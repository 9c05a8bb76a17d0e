"""The compose files: valid, closed, and every variable documented."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "docker-compose.yml"
GPU = ROOT / "deploy" / "docker-compose.gpu.yml"
FILES = [MAIN, *sorted((ROOT / "deploy").glob("docker-compose.*.yml"))]
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(?::?-([^}]*))?\}")


def load(file: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(file.read_text())
    return loaded


def included() -> list[Path]:
    """The main file and what it includes, as compose reads them."""
    return [MAIN, *(ROOT / entry["path"] for entry in load(MAIN)["include"])]


def services() -> dict[str, Any]:
    return {name: s for file in included() for name, s in load(file)["services"].items()}


def documented() -> dict[str, str]:
    """Every variable of .env.example, set or shown as a comment, with its value."""
    text = (ROOT / ".env.example").read_text()
    pairs = re.findall(r"^#?([A-Z][A-Z0-9_]+)=(.*)$", text, re.MULTILINE)
    assert len(dict(pairs)) == len(pairs), "a variable stands there twice"
    return dict(pairs)


def test_valid_against_the_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    checked = subprocess.run([*command, *map(str, FILES)], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


def test_all_files_are_used() -> None:
    assert {*included(), GPU} == set(FILES)
    for file in included()[1:]:
        assert all("profiles" in service for service in load(file)["services"].values())


def test_the_api_and_redis_alone_start_by_themselves() -> None:
    assert {n for n, service in services().items() if "profiles" not in service} == {"api", "redis"}
    assert {p for s in services().values() for p in s.get("profiles", [])} == {
        "monitoring", "export",
    }  # fmt: skip


def test_shared_volumes_are_declared_alike() -> None:
    """Compose takes the same name from two files only where both say the same of it."""
    seen: dict[str, Any] = {}
    for file in included():
        for name, volume in load(file).get("volumes", {}).items():
            assert seen.setdefault(name, volume) == volume
        for service in load(file)["services"].values():
            volumes = [VARIABLE.sub(r"\2", volume) for volume in service.get("volumes", [])]
            sources = [volume.partition(":")[0] for volume in volumes]
            named = {source for source in sources if not source.startswith(".")}
            assert named <= set(load(file)["volumes"])
            assert all((ROOT / s).exists() for s in sources if s.startswith("."))


def test_variables_are_documented_with_their_defaults() -> None:
    shown = documented()
    for file in FILES:
        for name, default in VARIABLE.findall(file.read_text()):
            if name in ("ENV_FILE", "XCLIP_REDIS_URL"):
                continue  # set in the example; another default outside of compose
            assert shown[name] == default, name


def test_the_example_is_the_settings_and_changes_nothing() -> None:
    sys.path.insert(0, str(ROOT / "deploy"))
    try:
        example = importlib.import_module("env_example").example
    finally:
        sys.path.remove(str(ROOT / "deploy"))
    text = (ROOT / ".env.example").read_text()
    assert text == example(), "run: python deploy/env_example.py"
    assert {n for n in documented() if n.startswith("XCLIP_")} == {
        f"XCLIP_{name.upper()}" for name in Settings.model_fields
    }
    active = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert active == ["ENV_FILE=.env"]


def test_shown_defaults_are_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in documented().items():
        if name.startswith("XCLIP_"):
            monkeypatch.setenv(name, value)
    shown = Settings(_env_file=None)
    for name in documented():
        monkeypatch.delenv(name, raising=False)
    assert shown == Settings(_env_file=None)


def test_containers_are_closed() -> None:
    for name, service in services().items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name
        for port in service.get("ports", []):
            assert port.startswith(("127.0.0.1:", "${API_ADDRESS:-127.0.0.1}:")), name
    for name in ("api", "redis", "export", "prometheus"):
        assert services()[name]["read_only"] is True
    assert "ports" not in services()["redis"]
    assert load(MAIN)["networks"]["cache"] == {"internal": True}


def test_images_have_versions() -> None:
    for name, service in services().items():
        default = VARIABLE.fullmatch(service["image"])
        assert default is not None, name
        assert re.search(r":[\w.-]+$", default[2]), name
        assert not default[2].endswith("latest"), name


def test_a_stop_is_given_the_time_it_may_take() -> None:
    grace = services()["api"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > Settings.model_fields["shutdown_grace_s"].default + 5
