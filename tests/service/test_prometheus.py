"""A real Prometheus scrapes real servers under load: every panel and every alert gets its data, and
alerts fire when, and only when, there is reason to.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import ROOT, missing
from tests.service.conftest import clip_bytes
from tests.service.hostile.conftest import ServerProcess
from tests.service.redis.conftest import RedisServer, free_port, make_redis, redis_server  # noqa: F401

DEPLOY = ROOT / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
WINDOW = "5s"
# The threshold at the end of an alert's expression.
THRESHOLD = re.compile(r"\s*(>|<|==)\s*[\d.]+\s*$")


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[str]:
    found: list[str] = []

    def collect(items: list[dict[str, Any]]) -> None:
        for item in items:
            found.extend(target["expr"] for target in item.get("targets", []))
            collect(item.get("panels", []))

    for file in sorted((DEPLOY / "grafana" / "dashboards").glob("*.json")):
        collect(json.loads(file.read_text())["panels"])
    return found


def quickened(expression: str) -> str:
    """The same over seconds instead of minutes, for every instance."""
    expression = expression.replace("$__rate_interval", WINDOW).replace("$instance", ".+")
    return re.sub(r"\[\d+[mh]\]", f"[{WINDOW}]", expression)


class Prometheus:
    """A real one, that looks at the servers' metrics every half second."""

    def __init__(self, folder: Path, targets: list[str]) -> None:
        if shutil.which("prometheus") is None:
            missing("prometheus (Debian package prometheus)")
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        job = config["scrape_configs"][0]
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": targets}]
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        alerts = yaml.safe_load(ALERTS.read_text())
        for group in alerts["groups"]:
            for rule in group["rules"]:
                rule["expr"], rule["for"] = quickened(rule["expr"]), "0s"
        (folder / "alerts.yml").write_text(yaml.safe_dump(alerts))
        while not self._started(folder, free_port()):
            self.stop()  # somebody has taken the port since it was found free

    def _started(self, folder: Path, port: int) -> bool:
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder / 'prometheus.yml'}",
             f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
             "--log.level=error"],
        )  # fmt: skip
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=None)
        while self.process.poll() is None:
            with contextlib.suppress(httpx.TransportError):
                if self.client.get("/-/ready").is_success:  # until then it says 503
                    return True
            time.sleep(0.02)
        return False

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The samples of an instant query."""
        answer = self.client.get("/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", (query, answer)
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def firing(self) -> set[str]:
        alerts = self.client.get("/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait()


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that is bound to happen; pytest's own limit ends a hopeless wait."""
    while True:
        with contextlib.suppress(httpx.TransportError):
            if condition():
                return
        time.sleep(0.2)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("bundles") / "bundle"
    shutil.copytree(ROOT / "service" / "demo_bundle", copy)
    return copy


@pytest.fixture
def server(tmp_path: Path, redis_server: RedisServer, bundle: Path) -> Iterator[ServerProcess]:  # noqa: F811
    started = ServerProcess(tmp_path, redis_url=redis_server.url, bundle=bundle)
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.kill()


def load(server: ServerProcess, turn: int) -> None:
    """A little of everything that the dashboard tells."""
    clip = clip_bytes(shade=turn % 6) + bytes([turn % 256])
    assert server.classify(clip, labels=json.dumps([f"label {turn}", "b"])).status_code == 200
    assert server.classify(clip, labels='["a", "b"]').status_code == 200
    assert server.classify(b"no video").status_code == 415
    if turn % 4 == 0:
        victim = server.workers()[0]
        victim.kill()
        until(lambda: victim not in server.workers())


def test_panels_and_alerts_get_their_data(
    server: ServerProcess,
    redis_server: RedisServer,  # noqa: F811
    bundle: Path,
    tmp_path: Path,
) -> None:
    prometheus = Prometheus(tmp_path, [server.url.removeprefix("http://")])
    try:
        turn = 0
        asked = [quickened(query) for query in panels()]
        asked += [THRESHOLD.sub("", quickened(rule["expr"])) for rule in rules()]
        assert len(asked) > 35
        empty = asked
        while empty:
            load(server, turn)
            turn += 1
            empty = [query for query in empty if not with_number(prometheus.ask(query))]
        # A server that is only fed bad clips now and then is no reason to call anybody.
        alarming = prometheus.firing() - {"XclipDecodeWorkersDie"}
        assert alarming == set()

        redis_server.kill()
        (bundle / "bundle.json").write_text("{")
        server.root.send_signal(signal.SIGHUP)
        until(lambda: server.classify(clip_bytes(), labels=f'["new {turn}"]').status_code == 200)
        until(lambda: {"XclipSharedCacheDown", "XclipReloadRefused"} <= prometheus.firing())
        server.kill()
        until(lambda: "XclipDown" in prometheus.firing())
    finally:
        prometheus.stop()


def with_number(samples: list[dict[str, Any]]) -> bool:
    return any(sample["value"][1] != "NaN" for sample in samples)


# Series by alert: what makes it fire, and the same a little less, which does not. Values are one a
# minute, in promtool's notation; `up` and requests go on in all of them.
STEADY = {
    'up{job="xclip-serve", instance="a"}': "1x60",
    'xclip_requests_total{route="/classify", status="200", code=""}': "0+600x60",
    'xclip_max_in_flight{instance="a"}': "64x60",
}
SLOW, QUICK = (
    {
        'xclip_request_seconds_bucket{route="/classify", le="10"}': within,
        'xclip_request_seconds_bucket{route="/classify", le="30"}': "0+100x60",
        'xclip_request_seconds_bucket{route="/classify", le="+Inf"}': "0+100x60",
    }
    for within in ("0+50x60", "0+100x60")
)
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "XclipDown": ({'up{job="xclip-serve", instance="a"}': "0x60"}, {}),
    "XclipServerErrors": (
        {'xclip_requests_total{route="/classify", status="500", code="internal_error"}': "0+6x60"},
        {'xclip_requests_total{route="/classify", status="503", code="not_ready"}': "0+6x60"},
    ),
    "XclipRefusing": (
        {'xclip_requests_total{route="/classify", status="429", code="queue_full"}': "0+60x60"},
        {'xclip_requests_total{route="/classify", status="429", code="queue_full"}': "0+6x60"},
    ),
    "XclipSaturated": (
        {'xclip_in_flight{instance="a"}': "60x60"},
        {'xclip_in_flight{instance="a"}': "40x60"},
    ),
    "XclipSlow": (SLOW, QUICK),
    "XclipDecodeWorkersDie": (
        {'xclip_decode_workers_ended_total{reason="crash"}': "0+60x60"},
        {'xclip_decode_workers_ended_total{reason="jobs"}': "0+60x60"},
    ),
    "XclipSandboxIncomplete": (
        {'xclip_sandbox{instance="a", measure="landlock"}': "0x60"},
        {'xclip_sandbox{instance="a", measure="landlock"}': "1x60"},
    ),
    "XclipKeysStale": (
        {'xclip_api_keys_stale{instance="a"}': "1x60"},
        {'xclip_api_keys_stale{instance="a"}': "0x60"},
    ),
    "XclipSharedCacheDown": (
        {'xclip_shared_cache_up{instance="a"}': "0x60"},
        {'xclip_shared_cache_up{instance="a"}': "1x60"},
    ),
    "XclipSharedCacheCorrupt": (
        {'xclip_shared_cache_values_total{reason="corrupt"}': "0+1x60"},
        {'xclip_shared_cache_values_total{reason="good"}': "0+1x60"},
    ),
    "XclipReloadRefused": (
        {'xclip_reloads_total{result="refused", instance="a"}': "0x25 1x35"},
        {'xclip_reloads_total{result="swapped", instance="a"}': "0x25 1x35"},
    ),
    "XclipMixedBundles": (
        {'xclip_build_info{bundle="1"}': "1x60", 'xclip_build_info{bundle="2"}': "1x60"},
        {
            'xclip_build_info{bundle="1", instance="a"}': "1x60",
            'xclip_build_info{bundle="1", instance="b"}': "1x60",
        },
    ),
}


def test_every_alert_has_a_case() -> None:
    assert {rule["alert"] for rule in rules()} == set(CASES)


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_for_its_reason_and_no_other(alert: str, tmp_path: Path) -> None:
    """The rules as they are, with their own times, in Prometheus' own test tool."""
    if shutil.which("promtool") is None:
        missing("promtool (Debian package prometheus)")
    tests = []
    for series, fires in zip(CASES[alert], (True, False), strict=True):
        shown = [{"series": name, "values": values} for name, values in (STEADY | series).items()]
        expression = f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)'
        tests.append(
            {
                "interval": "1m",
                "input_series": shown,
                "promql_expr_test": [
                    {
                        "expr": expression,
                        "eval_time": "35m",
                        "exp_samples": [{"labels": "{}", "value": int(fires)}],
                    }
                ],
            }
        )
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(ALERTS)], "tests": tests}))
    run = subprocess.run(
        ["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
