"""Write the settings into .env.example and docker-compose.yml: python deploy/env_example.py.

In .env.example each stands once, with what it means and its default; docker-compose.yml names
those that the API gets of .env. A test holds both files to this.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from pydantic_core import PydanticUndefined

from service.settings import DEMO_BUNDLE, Settings

ROOT = Path(__file__).resolve().parents[1]
FILE, COMPOSE = ROOT / ".env.example", ROOT / "docker-compose.yml"
NAMES = re.compile(r"(?<=^x-settings: &settings\n)(?:  XCLIP_\w+:\n)*", re.MULTILINE)
SET_BY_COMPOSE = {"host", "port", "ops_host", "ops_port", "upload_dir", "redis_url"}

HEAD = """\
# `make env` copies this file to .env and draws the passwords; docker compose reads it. Take the #
# away from what you change. Outside containers the same XCLIP_ variables work in the environment,
# or as flags of `python -m service` (XCLIP_MAX_LABELS is --max-labels).

# --- compose ------------------------------------------------------------------------------------

# an NVIDIA GPU: build and run the gpu image
#COMPOSE_FILE=docker-compose.yml:deploy/docker-compose.gpu.yml
# where the API listens on this machine; 0.0.0.0 lets others in
#API_ADDRESS=127.0.0.1
#API_PORT=8000
# where operators find /metrics and /docs, on this machine alone
#OPS_PORT=8100
# what the API may take of this machine, whatever its clients do; a GPU needs more memory beside
#API_MEMORY=6g
#API_GPU_MEMORY=24g
#API_CPUS=2
# passwords that `make env` draws
#REDIS_PASSWORD=
#GRAFANA_PASSWORD=
# images, where yours are in a registry; `make pin` writes the others with their digests
#API_IMAGE=localhost/xclip-serve:cpu
#API_GPU_IMAGE=localhost/xclip-serve:gpu
#EXPORT_IMAGE=localhost/xclip-serve:export
#BASE_IMAGE=docker.io/library/python:3.11-slim-bookworm
#REDIS_IMAGE=docker.io/library/redis:7-bookworm
#PROMETHEUS_IMAGE=docker.io/prom/prometheus:v3.5.0
#GRAFANA_IMAGE=docker.io/grafana/grafana:12.1.1
# memory for label vectors and clips: for the B models 2.3 KiB a label, 0.1 to 0.4 MiB a clip; and
# what Redis may take in all
#REDIS_MAXMEMORY=256mb
#REDIS_MEMORY=512m
# where bundles lie: a volume, or a folder of this machine such as ./bundles
#BUNDLES=bundles
# profile export: what to make a bundle from, and its name in the volume
#EXPORT_CHECKPOINT=microsoft/xclip-base-patch16-zero-shot
#EXPORT_NAME=current
#EXPORT_MEMORY=16g
#EXPORT_CPUS=2
# traces: where an OpenTelemetry collector listens; its other standard variables count too
#OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318
# profile monitoring
#PROMETHEUS_PORT=9090
#GRAFANA_PORT=3000

# --- the server ---------------------------------------------------------------------------------
# In the container XCLIP_SANDBOX is require; compose sets XCLIP_HOST, XCLIP_PORT, XCLIP_OPS_HOST,
# XCLIP_OPS_PORT, XCLIP_UPLOAD_DIR and, unless it stands here, XCLIP_REDIS_URL itself.
"""


def example() -> str:
    """Write the whole file."""
    return HEAD + "".join(_entry(name) for name in Settings.model_fields)


def compose(text: str) -> str:
    """Put the settings that the API gets of .env into the text of docker-compose.yml."""
    names = [name for name in Settings.model_fields if name not in SET_BY_COMPOSE]
    return NAMES.sub("".join(f"  XCLIP_{name.upper()}:\n" for name in names), text)


def _entry(name: str) -> str:
    field = Settings.model_fields[name]
    default = field.default
    if default in (None, PydanticUndefined) or default == DEMO_BUNDLE:
        shown = ""
    elif isinstance(default, bool):
        shown = str(default).lower()
    elif isinstance(default, float):
        shown = f"{default:g}" if default < 1e6 else str(default)
    elif isinstance(default, list | tuple | set | frozenset):
        shown = ",".join(map(str, default))
    else:
        shown = str(default)
    return f"\n# {field.description}\n#XCLIP_{name.upper()}={shown}\n"


if __name__ == "__main__":
    FILE.write_text(example())
    COMPOSE.write_text(compose(COMPOSE.read_text()))
    print(f"{FILE.name}: {len(Settings.model_fields)} settings", file=sys.stderr)
