"""Jobs and operators: manifests that are valid, locked down, and true to what they start."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from service.lifecycle.readiness import PROBE_TIMEOUT_S
from service.settings import DEMO_BUNDLE, Settings
from tests.conftest import ROOT
from tests.deploy import custom_resources
from tests.deploy.kustomize import Manifest, build, containers
from tests.deploy.test_kubernetes import FOLDER, VERSIONS, one, size, with_component
from tests.memory_limits import most_memory, most_upload_bytes
from xclip_serve.storage import is_address
from xclip_serve.verbs.batch import parser

FOLDERS = ("batch", "batch-bucket", "kserve", "ray", "training/job", "training/pytorchjob")
LOCKED = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def pod_specs(place: Any) -> Iterator[Manifest]:
    """Every pod's specification below a place."""
    if isinstance(place, list):
        for part in place:
            yield from pod_specs(part)
    elif isinstance(place, dict):
        if "containers" in place:
            yield place
        else:
            for part in place.values():
                yield from pod_specs(part)


@pytest.fixture(params=FOLDERS)
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    return build(FOLDER / request.param)


@pytest.fixture
def scaled(tmp_path: Path) -> Manifest:
    manifests = build(with_component("queue-depth", tmp_path))
    assert not [m for m in manifests if m["kind"] == "HorizontalPodAutoscaler"]
    return one(manifests, "ScaledObject")


@pytest.mark.parametrize("version", VERSIONS)
def test_valid_against_what_is_published(manifests: list[Manifest], version: str) -> None:
    for manifest in manifests:
        if manifest["kind"].lower() in custom_resources.SCHEMAS:
            custom_resources.validate(manifest, version)
        else:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_queue_is_a_valid_reason_to_scale(scaled: Manifest, version: str) -> None:
    custom_resources.validate(scaled, version)


@pytest.mark.parametrize(
    ("folder", "kind", "place", "value"),
    [
        ("kserve", "InferenceService", "spec/predictor/storageURI", "s3://models"),
        ("kserve", "InferenceService", "spec/predictor/containers/0/ports/0/containerPort", "http"),
        ("ray", "RayService", "spec/serveConfigV2", {"applications": []}),
        ("ray", "RayService", "spec/rayClusterConfig/workerGroupSpecs/0/replica", 1),
        ("ray", "RayService", "spec/rayClusterConfig/headGroupSpec/template/spec/image", "x"),
        ("training/pytorchjob", "PyTorchJob", "spec/elasticPolicy/maxRestarts", "many"),
        ("training/pytorchjob", "PyTorchJob", "spec/pytorchReplicaSpecs/Worker/replica", 2),
        ("training/pytorchjob", "PyTorchJob", "spec/nprocPerNode", 1),
    ],
)
def test_a_wrong_manifest_would_be_noticed(
    folder: str, kind: str, place: str, value: object
) -> None:
    manifest = next(m for m in build(FOLDER / folder) if m["kind"] == kind)
    *parents, last = place.split("/")
    part: Any = manifest
    for name in parents:
        part = part[int(name)] if isinstance(part, list) else part[name]
    part[last] = value
    with pytest.raises(jsonschema.ValidationError):
        custom_resources.validate(manifest, VERSIONS[-1])


def test_a_wrong_trigger_would_be_noticed(scaled: Manifest) -> None:
    scaled["spec"]["triggers"][0]["metadata"]["threshold"] = 4
    with pytest.raises(jsonschema.ValidationError):
        custom_resources.validate(scaled, VERSIONS[-1])


def test_pods_have_no_right_they_do_not_need(manifests: list[Manifest]) -> None:
    kinds = {manifest["kind"] for manifest in manifests}
    for pod in pod_specs(manifests):
        head = pod["containers"][0]["name"] == "ray-head"  # its autoscaler asks for pods
        assert pod["automountServiceAccountToken"] is head
        for container in containers({"containers": pod["containers"]}):
            context = pod.get("securityContext", {}) | container["securityContext"]
            assert LOCKED.items() <= context.items()
            assert context["runAsNonRoot"] is True
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            # Ray writes where it likes.
            assert context.get("readOnlyRootFilesystem", False) is ("RayService" not in kinds)
            for held in ("requests", "limits"):
                assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"][held])
            mounts = {mount["name"] for mount in container["volumeMounts"]}
            assert mounts <= {volume["name"] for volume in pod["volumes"]}


def shell(
    command: list[str], stand_in: str, folder: Path, status: int, index: int, **env: str
) -> tuple[int, str]:
    """Run a container's command; in the real program's place stands one that says its words."""
    program = folder / stand_in
    program.write_text(f'#!/bin/sh\necho "$@"\nexit {status}\n')
    program.chmod(0o755)
    done = subprocess.run(
        command,
        env={"PATH": f"{folder}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": str(index), **env},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout


def test_each_shard_is_one_pods(tmp_path: Path) -> None:
    job = one(build(FOLDER / "batch"), "Job", "xclip-batch")["spec"]
    container = job["template"]["spec"]["containers"][0]
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    count = job["completions"]
    assert (job["completionMode"], env["SHARDS"]) == ("Indexed", str(count))
    said = [shell(container["command"], "python", tmp_path, 0, i, **env)[1] for i in range(count)]
    shards = [re.search(r"--shard (\d+/\d+) ", words) for words in said]
    assert [found and found[1] for found in shards] == [f"{i + 1}/{count}" for i in range(count)]
    assert len({re.search(r"--output (\S+)", words)[1] for words in said}) == count  # type: ignore[index]


def test_pods_write_one_table_in_a_bucket(tmp_path: Path) -> None:
    job = one(build(FOLDER / "batch-bucket"), "Job", "xclip-batch")["spec"]
    pod = job["template"]["spec"]
    container = pod["containers"][0]
    env = {entry["name"]: entry["value"] for entry in container["env"]}
    asked = parser()
    shards = set()
    for index in range(job["completions"]):
        words = shell(container["command"], "python", tmp_path, 0, index, **env)[1].split()
        given = asked.parse_args(words[words.index("batch") + 1 :])
        assert [*given.paths, given.output] == [env["CLIPS"], env["TABLE"]]
        assert all(map(is_address, (env["CLIPS"], env["TABLE"])))
        shards.add(given.shard)
    assert shards == {(i + 1, job["completions"]) for i in range(job["completions"])}
    assert not [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]


@pytest.mark.parametrize("folder", ["batch", "batch-bucket"])
@pytest.mark.parametrize(("status", "pod"), [(0, 0), (3, 0), (2, 2), (137, 137)])
def test_clips_that_cannot_be_used_do_not_fail_a_pod(
    status: int, pod: int, folder: str, tmp_path: Path
) -> None:
    job = one(build(FOLDER / folder), "Job", "xclip-batch")["spec"]
    command = job["template"]["spec"]["containers"][0]["command"]
    assert shell(command, "python", tmp_path, status, 0, SHARDS="8")[0] == pod
    assert job["maxFailedIndexes"] == 0, "a pod that fails to the end is a mistake: it ends the job"
    assert [rule["action"] for rule in job["podFailurePolicy"]["rules"]] == ["Ignore"]


def test_pods_that_train_meet_at_the_first_of_them(tmp_path: Path) -> None:
    manifests = build(FOLDER / "training" / "job")
    job, service = one(manifests, "Job", "xclip-train"), one(manifests, "Service", "xclip-train")
    pod = job["spec"]["template"]["spec"]
    assert pod["subdomain"] == service["metadata"]["name"]
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert service["spec"]["clusterIP"] == "None"
    container = pod["containers"][0]
    command = [*container["command"], *container["args"]]
    said = [shell(command, "torchrun", tmp_path, 0, i)[1] for i in range(2)]
    port = service["spec"]["ports"][0]["port"]
    for index, words in enumerate(said):
        assert f"--rdzv-endpoint {job['metadata']['name']}-0.{pod['subdomain']}:{port}" in words
        assert f"is_host={int(index == 0)}" in words
        assert f"--nnodes 1:{job['spec']['completions']}" in words


def test_the_predictor_is_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = build(FOLDER / "kserve")[0]["spec"]["predictor"]
    api = predictor["containers"][0]
    assert api["name"] == "kserve-container", "KServe looks for this name, and its STORAGE_URI"
    env = {entry["name"]: entry["value"] for entry in api["env"]}
    assert env.pop("STORAGE_URI")
    for name, value in env.items():
        assert name.removeprefix("XCLIP_").lower() in Settings.model_fields
        monkeypatch.setenv(name, value)
    limits = api["resources"]["limits"]
    settings = Settings(decode_workers=int(limits["cpu"]))
    assert str(settings.bundle) == "/mnt/models", "where KServe puts it"
    assert settings.ops_port is None, "one port"
    assert [port["containerPort"] for port in api["ports"]] == [settings.port]
    assert predictor["containerConcurrency"] == settings.max_in_flight
    assert predictor["timeout"] >= settings.timeline_timeout_s
    for probe in ("readinessProbe", "livenessProbe"):
        assert api[probe]["httpGet"]["port"] == settings.port
    assert api["readinessProbe"]["timeoutSeconds"] > PROBE_TIMEOUT_S
    volumes = {volume["name"]: volume["emptyDir"]["sizeLimit"] for volume in predictor["volumes"]}
    assert most_upload_bytes(settings) <= size(volumes["uploads"])
    used = most_memory(settings.model_copy(update={"bundle": DEMO_BUNDLE}))
    assert used + size(volumes["tmp"]) <= size(limits["memory"])


def test_the_reason_to_scale_comes_before_requests_are_refused(scaled: Manifest) -> None:
    settings = one(build(FOLDER / "base"), "ConfigMap")["data"]
    trigger = scaled["spec"]["triggers"][0]
    assert int(trigger["metadata"]["threshold"]) <= int(settings["XCLIP_MAX_IN_FLIGHT"]) / 2
    names = [m["metadata"]["name"] for m in build(FOLDER / "base") if m["kind"] == "Deployment"]
    assert scaled["spec"]["scaleTargetRef"]["name"] in names


def test_ray_serves_our_application() -> None:
    (service,) = build(FOLDER / "ray")
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    ours = yaml.safe_load((ROOT / "deploy" / "ray" / "serve.yaml").read_text())
    assert shape(config) == shape(ours), "as on a cluster of one's own"
    (application,) = config["applications"]
    assert application["import_path"] == ours["applications"][0]["import_path"]
    settings = Settings(bundle=DEMO_BUNDLE, **application["args"])
    (deployment,) = application["deployments"]
    at_once = settings.max_in_flight + settings.max_uploads
    assert deployment["max_ongoing_requests"] == 2 * at_once, "our own 429 comes first"
    cluster = service["spec"]["rayClusterConfig"]
    assert f'"ray[data,serve]=={cluster["rayVersion"]}"' in (ROOT / "pyproject.toml").read_text()
    workers = cluster["workerGroupSpecs"][0]
    scaling = deployment["autoscaling_config"]
    assert scaling["min_replicas"] == workers["minReplicas"]
    assert scaling["max_replicas"] == workers["maxReplicas"]
    pod = workers["template"]["spec"]
    limits = pod["containers"][0]["resources"]["limits"]
    assert deployment["ray_actor_options"]["num_cpus"] == int(limits["cpu"]), "a replica a pod"
    volumes = {volume["name"]: volume["emptyDir"]["sizeLimit"] for volume in pod["volumes"]}
    assert most_upload_bytes(settings) <= size(volumes["uploads"])
    used = most_memory(settings.model_copy(update={"decode_workers": int(limits["cpu"])}))
    assert used <= size(limits["memory"])
    assert pod["terminationGracePeriodSeconds"] > deployment["graceful_shutdown_timeout_s"]
    for container in containers(service):
        env = {entry["name"]: entry["value"] for entry in container["env"]}
        assert env["RAY_USAGE_STATS_ENABLED"] == "0"
        named = {name[6:].lower() for name in env if name.startswith("XCLIP_")}
        assert named <= set(Settings.model_fields)


def shape(place: Any) -> Any:
    """The keys of a config, without what they are set to."""
    if isinstance(place, dict):
        return {name: shape(part) for name, part in place.items()}
    return [shape(part) for part in place] if isinstance(place, list) else None
