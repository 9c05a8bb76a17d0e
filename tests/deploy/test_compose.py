"""The compose files: valid, closed, and every variable documented."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from service.settings import DEMO_BUNDLE, Settings
from tests.memory_limits import most_memory

ROOT = Path(__file__).resolve().parents[2]
MAIN = ROOT / "docker-compose.yml"
GPU = ROOT / "deploy" / "docker-compose.gpu.yml"
FILES = [MAIN, *sorted((ROOT / "deploy").glob("docker-compose.*.yml"))]
# A variable with its default, which may hold another.
VARIABLE = re.compile(r"(?<!\$)\$\{([A-Z_]+)(?::-((?:[^{}]|\$\{[A-Z_]+\})*))?\}")
REQUIRED = re.compile(r"\$\{([A-Z_]+):\?run make env, which draws one\}")


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
            if name == "XCLIP_REDIS_URL":
                continue  # another default outside of compose
            assert shown[name] == default, name


def test_the_example_is_the_settings_and_changes_nothing() -> None:
    sys.path.insert(0, str(ROOT / "deploy"))
    try:
        written = importlib.import_module("env_example")
    finally:
        sys.path.remove(str(ROOT / "deploy"))
    text = (ROOT / ".env.example").read_text()
    assert text == written.example(), "run: python deploy/env_example.py"
    assert MAIN.read_text() == written.compose(MAIN.read_text()), (
        "run: python deploy/env_example.py"
    )
    assert {n for n in documented() if n.startswith("XCLIP_")} == {
        f"XCLIP_{name.upper()}" for name in Settings.model_fields
    }
    assert not [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_api_gets_its_own_variables_and_no_others() -> None:
    api = services()["api"]
    assert "env_file" not in api
    given = api["environment"]
    assert {name for name in given if not name.startswith("OTEL_")} == {
        f"XCLIP_{name.upper()}" for name in Settings.model_fields
    }
    handed_on = {name for name, value in given.items() if value is None}
    fixed = {"HOST", "PORT", "OPS_HOST", "OPS_PORT", "UPLOAD_DIR", "REDIS_URL"}
    assert given.keys() - handed_on == {f"XCLIP_{name}" for name in fixed}


def test_redis_and_grafana_do_not_start_without_a_password_of_their_own() -> None:
    redis, api = services()["redis"], services()["api"]
    asked = redis["command"][redis["command"].index("--requirepass") + 1]
    found = REQUIRED.fullmatch(asked)
    assert found is not None
    assert redis["environment"] == {"REDISCLI_AUTH": asked}, "the health check"
    assert f":${{{found[1]}}}@redis:6379" in api["environment"]["XCLIP_REDIS_URL"]
    admin = services()["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"]
    assert REQUIRED.fullmatch(admin)


def test_make_env_draws_every_password_once(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    for name in (".env.example", "deploy/make-env.sh"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / ".env").write_text("# mine\nAPI_PORT=8080\n")
    for _ in range(2):
        subprocess.run([tmp_path / "deploy" / "make-env.sh"], check=True)
    drawn = dict(re.findall(r"^(\w+)=(.+)$", (tmp_path / ".env").read_text(), re.MULTILINE))
    required = {n for file in FILES for n in REQUIRED.findall(file.read_text())}
    assert drawn.keys() == required | {"API_PORT", "XCLIP_REDIS_SECRET"}
    assert len({drawn[name] for name in required}) == len(required)
    assert all(re.fullmatch("[0-9a-f]{48}", drawn[name]) for name in required)
    (tmp_path / ".env").unlink()
    subprocess.run([tmp_path / "deploy" / "make-env.sh"], check=True)
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    assert (tmp_path / ".env").read_text().startswith((ROOT / ".env.example").read_text())


def test_monitoring_asks_the_port_that_needs_no_key() -> None:
    api = services()["api"]
    port = api["environment"]["XCLIP_OPS_PORT"]
    assert f"127.0.0.1:${{OPS_PORT:-8100}}:{port}" in api["ports"]
    scraped = load(ROOT / "deploy" / "prometheus" / "prometheus.yml")["scrape_configs"]
    (found,) = scraped[0]["dns_sd_configs"]
    assert (found["names"], str(found["port"])) == (["api"], port)


def test_every_container_has_limits() -> None:
    for name, service in services().items():
        assert {"mem_limit", "cpus", "pids_limit"} <= set(service), name
        assert service["logging"]["driver"] == "json-file", name
        assert {"max-size", "max-file"} == set(service["logging"]["options"]), name


def test_the_memory_limit_holds_what_the_settings_allow() -> None:
    api = services()["api"]
    limit = VARIABLE.fullmatch(api["mem_limit"])
    processors = VARIABLE.fullmatch(api["cpus"])
    assert limit is not None
    assert processors is not None
    settings = Settings(bundle=DEMO_BUNDLE, decode_workers=int(processors[2]))
    in_memory = sum(int(m) for t in api["tmpfs"] for m in re.findall(r"size=(\d+)m", t)) << 20
    assert most_memory(settings) + in_memory <= int(limit[2].removesuffix("g")) << 30
    # Clips lie on the disk, in a folder that the image has, so that the volume is the server's.
    assert "uploads:/uploads" in api["volumes"]
    assert api["environment"]["XCLIP_UPLOAD_DIR"] == "/uploads"
    assert "-o xclip -g xclip /uploads" in (ROOT / "Dockerfile").read_text()


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
        assert service["read_only"] is True, name
        for port in service.get("ports", []):
            assert port.startswith(("127.0.0.1:", "${API_ADDRESS:-127.0.0.1}:")), name
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
