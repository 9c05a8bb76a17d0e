"""Write .env.example anew from the server's settings: python deploy/env_example.py.

Each variable stands there once, with what it means and its default; a test holds the file to this.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic_core import PydanticUndefined

from service.settings import DEMO_BUNDLE, Settings

FILE = Path(__file__).resolve().parents[1] / ".env.example"

HEAD = """\
# Copy this file to .env and take the # away from what you change; docker compose reads it.
# Outside containers the same XCLIP_ variables work in the environment, or as flags of
# `python -m service` (XCLIP_MAX_LABELS is --max-labels).

# Have compose hand this file's XCLIP_ settings to the API.
ENV_FILE=.env

# --- compose ------------------------------------------------------------------------------------

# an NVIDIA GPU: build and run the gpu image
#COMPOSE_FILE=docker-compose.yml:deploy/docker-compose.gpu.yml
# where the API listens on this machine; 0.0.0.0 lets others in
#API_ADDRESS=127.0.0.1
#API_PORT=8000
# images, where yours are in a registry
#API_IMAGE=localhost/xclip-serve:cpu
#API_GPU_IMAGE=localhost/xclip-serve:gpu
#EXPORT_IMAGE=localhost/xclip-serve:export
#REDIS_IMAGE=docker.io/library/redis:7-bookworm
#PROMETHEUS_IMAGE=docker.io/prom/prometheus:v3.5.0
#GRAFANA_IMAGE=docker.io/grafana/grafana:12.1.1
# memory for uploads while they are used: uploads at once × their size
#UPLOAD_SPACE=1g
# memory for label vectors and clips: for the B models 2.3 KiB a label, 0.1 to 0.4 MiB a clip
#REDIS_MAXMEMORY=256mb
# where bundles lie: a volume, or a folder of this machine such as ./bundles
#BUNDLES=bundles
# profile export: what to make a bundle from, and its name in the volume
#EXPORT_CHECKPOINT=microsoft/xclip-base-patch16-zero-shot
#EXPORT_NAME=current
# traces: where an OpenTelemetry collector listens; its other standard variables count too
#OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318
# profile monitoring
#PROMETHEUS_PORT=9090
#GRAFANA_PORT=3000
#GRAFANA_PASSWORD=admin

# --- the server ---------------------------------------------------------------------------------
# In the container XCLIP_HOST is :: and XCLIP_SANDBOX require; compose sets XCLIP_REDIS_URL and
# XCLIP_PORT itself.
"""


def example() -> str:
    """Write the whole file."""
    return HEAD + "".join(_entry(name) for name in Settings.model_fields)


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
    print(f"{FILE.name}: {len(Settings.model_fields)} settings", file=sys.stderr)
