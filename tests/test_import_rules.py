"""Which package may import which, and that serving loads no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "torchvision", "transformers", "open_clip", "onnx", "tensorrt", "openvino"}
HTTP = {"fastapi", "starlette", "uvicorn", "python_multipart"}


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after the statement."""
    code = f"{statement}\nimport sys\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_import_directions_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    run = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize(
    "module",
    [
        "model.inputs",
        "export.bundle",
        "export.runtime",
        "service.app",
        "service.decode.worker",
        "xclip_serve.classifier",
        "xclip_serve.client",
    ],
)
def test_serving_side_loads_no_heavy_library(module: str) -> None:
    assert not modules_after(f"import {module}") & HEAVY


@pytest.mark.parametrize(
    "module",
    [
        "service.contract.errors",
        "service.inference.engine",
        "service.cache.clips",
        "service.cache.labels",
        "service.cache.redis.client",
        "service.cache.redis.clip_store",
        "service.cache.redis.label_store",
    ],
)
def test_the_core_knows_nothing_of_http(module: str) -> None:
    assert not modules_after(f"import {module}") & HTTP


def test_the_check_sees_http_where_it_is_loaded() -> None:
    loaded = modules_after("import service.app, service.transport.graceful_shutdown")
    assert loaded >= HTTP


def test_a_plain_server_loads_nothing_that_its_settings_do_not_ask_for() -> None:
    """Each would delay every start; the first three by a third of all that is loaded."""
    optional = {"redis", "limits", "httpx", "onnxruntime", "av"}
    assert not modules_after("import service.__main__") & optional
    with_redis = modules_after(
        "from service.settings import Settings; Settings(redis_url='redis://localhost')"
    )
    assert "redis" in with_redis


def test_the_check_sees_torch_where_it_is_loaded() -> None:
    assert "torch" in modules_after("from model import load_checkpoint")


@pytest.mark.parametrize("package", ["model", "export", "service", "xclip_serve"])
def test_importing_a_package_reads_no_environment_and_starts_no_thread(package: str) -> None:
    code = (
        "import os, threading\n"
        "before = dict(os.environ)\n"
        f"import {package}\n"
        "assert dict(os.environ) == before\n"
        "assert threading.active_count() == 1\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_classifier_needs_no_http() -> None:
    assert not modules_after("import xclip_serve.classifier") & {"fastapi", "starlette", "uvicorn"}


def test_a_client_needs_no_network_library() -> None:
    assert not modules_after("import xclip_serve.client") & {
        "av",
        "onnxruntime",
        "redis",
        "tokenizers",
    }
