"""The manifests as they would be applied: valid, locked down, and true to the server."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.settings import DEMO_BUNDLE, Settings
from tests.deploy.kustomize import Manifest, build
from tests.memory_limits import most_memory, most_upload_bytes

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
DEPLOY_PAGE = (ROOT / "docs" / "deploy.md").read_text()
OVERLAYS = ("cpu", "gpu")
VERSIONS = ("1.30", "1.33", "1.37")


def with_component(name: str, tmp_path: Path) -> Path:
    """An overlay of the base with a component, as a user would write it."""
    plan = {
        "resources": [os.path.relpath(FOLDER / "base", tmp_path)],
        "components": [os.path.relpath(FOLDER / "components" / name, tmp_path)],
        "images": [{"name": "xclip-serve", "newName": "registry/xclip", "newTag": "1"}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(plan))
    return tmp_path


def one(manifests: list[Manifest], kind: str, name: str = "xclip-serve") -> Manifest:
    found = [m for m in manifests if m["kind"] == kind and m["metadata"]["name"] == name]
    assert len(found) == 1
    return found[0]


def pods(manifests: list[Manifest]) -> list[Manifest]:
    return [m["spec"]["template"] for m in manifests if "template" in m.get("spec", {})]


@pytest.fixture(params=[*OVERLAYS, "bundle-volume", "bundle-image", "bundle-oci", "bundle-bucket"])
def manifests(request: pytest.FixtureRequest, tmp_path: Path) -> list[Manifest]:
    overlay = request.param in OVERLAYS
    return build(
        FOLDER / "overlays" / request.param if overlay else with_component(request.param, tmp_path)
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_valid_against_the_api(manifests: list[Manifest], version: str) -> None:
    for manifest in manifests:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_a_wrong_manifest_would_be_noticed() -> None:
    manifest = one(build(FOLDER / "overlays" / "cpu"), "Deployment")
    manifest["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"] = "http"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


def test_pods_have_no_right_they_do_not_need(manifests: list[Manifest]) -> None:
    for pod in pods(manifests):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert set(container["resources"]) == {"requests", "limits"}
            mounts = {m["name"] for m in container["volumeMounts"]}
            assert mounts <= {v["name"] for v in spec["volumes"]}


def test_names_refer_to_what_is_there(manifests: list[Manifest]) -> None:
    deployment = one(manifests, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    api = deployment["spec"]["template"]["spec"]["containers"][0]
    ports = {port["name"] for port in api["ports"]}
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
        spec = one(manifests, kind)["spec"]
        selector: Any = spec.get("selector") or spec["podSelector"]
        assert selector.get("matchLabels", selector).items() <= labels.items()
    assert one(manifests, "Service")["spec"]["ports"][0]["targetPort"] in ports
    target = one(manifests, "HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert api[probe]["httpGet"]["port"] in ports
    assert api["envFrom"] == [
        {"configMapRef": {"name": one(manifests, "ConfigMap")["metadata"]["name"]}}
    ]
    port = one(manifests, "Service", "xclip-redis")["spec"]["ports"][0]["port"]
    variables = {entry["name"]: entry for entry in api["env"]}
    redis_url = variables["XCLIP_REDIS_URL"]["value"]
    assert redis_url == f"redis://:$(REDIS_PASSWORD)@xclip-redis:{port}/0"
    names = [entry["name"] for entry in api["env"]]
    assert names.index("REDIS_PASSWORD") < names.index("XCLIP_REDIS_URL"), (
        "else it is not filled in"
    )


def test_redis_asks_for_a_password_that_stands_nowhere(manifests: list[Manifest]) -> None:
    redis = one(manifests, "Deployment", "xclip-redis")["spec"]["template"]["spec"]["containers"][0]
    api = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    asked = redis["args"][redis["args"].index("--requirepass") + 1]
    theirs = {entry["name"]: entry["valueFrom"] for entry in redis["env"]}
    ours = {entry["name"]: entry.get("valueFrom") for entry in api["env"]}
    assert theirs[asked.strip("$()")] == ours["REDIS_PASSWORD"]
    assert ours["REDIS_PASSWORD"] == {"secretKeyRef": {"name": "xclip-redis", "key": "password"}}
    assert "REDISCLI_AUTH" in theirs, "the probes"
    assert not [m for m in manifests if m["kind"] == "Secret"]
    made = re.search(r"kubectl create secret generic (\S+)([^\n]*\\\n[^\n]*)", DEPLOY_PAGE)
    assert made is not None
    assert made[1] == "xclip-redis"
    assert set(re.findall(r"--from-literal=(\w+)=", made[2])) == {"password", "signature"}


def test_limits_hold_what_the_settings_allow(
    manifests: list[Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in one(manifests, "ConfigMap")["data"].items():
        monkeypatch.setenv(name, value)
    pod = one(manifests, "Deployment")["spec"]["template"]["spec"]
    limits = pod["containers"][0]["resources"]["limits"]
    settings = Settings(bundle=DEMO_BUNDLE, decode_workers=int(limits["cpu"]))
    volumes = {volume["name"]: volume.get("emptyDir", {}) for volume in pod["volumes"]}
    assert most_upload_bytes(settings) <= size(volumes["uploads"]["sizeLimit"])
    on_disk = [v["sizeLimit"] for v in volumes.values() if v and v.get("medium") != "Memory"]
    assert sum(map(size, on_disk)) <= size(limits["ephemeral-storage"])
    in_memory = [v["sizeLimit"] for v in volumes.values() if v.get("medium") == "Memory"]
    assert most_memory(settings) + sum(map(size, in_memory)) <= size(limits["memory"])


def test_every_container_has_limits(manifests: list[Manifest]) -> None:
    for pod in pods(manifests):
        for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            for kind in ("requests", "limits"):
                held = container["resources"][kind]
                assert {"cpu", "memory", "ephemeral-storage"} <= set(held), container["name"]


def size(quantity: str) -> int:
    """Bytes of a Kubernetes quantity."""
    return int(quantity[:-2]) << {"Mi": 20, "Gi": 30}[quantity[-2:]]


def test_settings_are_the_servers(
    manifests: list[Manifest], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = one(manifests, "ConfigMap")["data"]
    for name, value in data.items():
        assert name.removeprefix("XCLIP_").lower() in Settings.model_fields
        monkeypatch.setenv(name, value)
    settings = Settings()
    pod = one(manifests, "Deployment")["spec"]["template"]["spec"]
    mounts = {m["mountPath"] for m in pod["containers"][0]["volumeMounts"]}
    assert str(settings.upload_dir) in mounts
    if "XCLIP_BUNDLE" in data:
        assert str(settings.bundle.parent) in mounts
    pause = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= pause + settings.shutdown_grace_s + 5


def test_a_probe_outlasts_the_readiness_it_asks_for(manifests: list[Manifest]) -> None:
    from service.lifecycle.readiness import PROBE_TIMEOUT_S

    api = one(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    for probe in ("startupProbe", "readinessProbe"):
        assert api[probe]["timeoutSeconds"] > PROBE_TIMEOUT_S


def test_the_autoscaler_acts_before_requests_are_refused() -> None:
    for name in OVERLAYS:
        manifests = build(FOLDER / "overlays" / name)
        metric = one(manifests, "HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]
        most = int(one(manifests, "ConfigMap")["data"]["XCLIP_MAX_IN_FLIGHT"])
        assert metric["metric"]["name"] == "xclip_in_flight"
        assert int(metric["target"]["averageValue"]) <= most / 2
        adapter = (FOLDER / "monitoring" / "adapter-values.yaml").read_text()
        assert metric["metric"]["name"] in adapter


def test_processors_are_requested_and_limited_alike() -> None:
    """The server makes as many threads as it may use: a larger limit would be throttled threads."""
    for name in OVERLAYS:
        api = one(build(FOLDER / "overlays" / name), "Deployment")["spec"]["template"]["spec"]
        resources = api["containers"][0]["resources"]
        assert resources["requests"]["cpu"] == resources["limits"]["cpu"]
