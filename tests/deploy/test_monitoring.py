"""Dashboards, alerts and autoscalers ask for metrics that a server gives, with labels it has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.service.conftest import RunningServer, clip_bytes

ROOT = Path(__file__).resolve().parents[2]
DASHBOARDS = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
SCALED = sorted((ROOT / "deploy" / "kubernetes").rglob("scaledobject.yaml"))
NAME = re.compile(r"\bxclip_[a-z_]+\b")
SELECTOR = re.compile(r"\b(xclip_[a-z_]+)\{([^}]*)\}")
SCRAPED = {"instance", "job"}  # labels that Prometheus itself adds


def panel_queries(panels: list[dict[str, object]]) -> Iterator[str]:
    for panel in panels:
        yield from (target["expr"] for target in panel.get("targets", []))  # type: ignore[attr-defined]
        yield from panel_queries(panel.get("panels", []))  # type: ignore[arg-type]


def queries() -> list[str]:
    dashboards = [json.loads(file.read_text()) for file in DASHBOARDS]
    rules = [
        rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]
    ]
    found = [rule["expr"] for rule in rules]
    for dashboard in dashboards:
        found += panel_queries(dashboard["panels"])
    assert len(found) > len(rules)
    for scaled in SCALED:
        found += [
            t["metadata"]["query"] for t in yaml.safe_load(scaled.read_text())["spec"]["triggers"]
        ]
    return found


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Names of samples that a server gives after one answer and one mistake; their labels."""
    # The address answers nothing: counters of the shared cache are there even so.
    server = RunningServer(redis_url="redis://127.0.0.1:1/0").start()
    try:
        files = {"video": ("c", clip_bytes())}
        answer = server.client.post("/classify", files=files, data={"labels": ["one", "two"]})
        assert answer.status_code == 200, answer.text
        assert server.client.post("/classify", data={"labels": "one"}).status_code >= 400
        text = server.client.get("/metrics").text
    finally:
        server.stop()
    names: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
    return names


@pytest.mark.parametrize("query", queries())
def test_a_query_asks_for_what_is_there(query: str, exposed: dict[str, set[str]]) -> None:
    names = set(NAME.findall(query))
    assert names <= exposed.keys(), names - exposed.keys()
    for name, selector in SELECTOR.findall(query):
        asked = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selector))
        assert asked <= exposed[name] | SCRAPED, (name, asked - exposed[name])
