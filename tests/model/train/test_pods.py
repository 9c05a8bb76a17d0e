"""Pods that train, as processes here: the command of the manifest, and one that is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from model import load_checkpoint
from tests.deploy.kustomize import build
from tests.model.clip_sets import tiny_run
from tests.model.train.processes import ROOT, command, environment, finished

JOB = ROOT / "deploy" / "kubernetes" / "training" / "job"
RUN = {
    "schedule__epochs": 5,
    "save__every_updates": 2,
    "log__every_updates": 1,
    "data__val": [],
}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def pod(index: int, port: int, config: Path, output: Path, log: Path) -> subprocess.Popen[bytes]:
    """A pod of the job: its command, with the places of this machine."""
    job = next(m for m in build(JOB) if m["kind"] == "Job")["spec"]
    container = job["template"]["spec"]["containers"][0]
    (words,) = container["args"]
    for there, here in (
        ("xclip-train-0.xclip-train:29400", f"127.0.0.1:{port}"),
        ("/data/train.yaml", str(config)),
        ("/runs/train", str(output)),
        ("--nnodes 1:2", "--nnodes 2:2"),  # or the first goes on alone where the other is slow
    ):
        assert there in words
        words = words.replace(there, here)
    with log.open("ab") as said:
        return subprocess.Popen(
            [*container["command"], words],
            cwd=ROOT,
            env=environment()
            | {entry["name"]: entry["value"] for entry in container["env"]}
            | {
                "JOB_COMPLETION_INDEX": str(index),
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            },
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def end(pod: subprocess.Popen[bytes]) -> None:
    """Kill torchrun and what it has started, as a pod ends."""
    children = Path(f"/proc/{pod.pid}/task/{pod.pid}/children").read_text().split()
    for process in (pod.pid, *map(int, children)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    pod.wait()


@pytest.mark.long
def test_a_pod_that_dies_starts_again_and_the_weights_are_the_same(
    clip_set: Path, tmp_path: Path
) -> None:
    calm = finished(command(tiny_run(clip_set, tmp_path / "calm", **RUN), 2))
    assert calm.returncode == 0, calm.stderr
    config, output, port = tmp_path / "train.yaml", tmp_path / "troubled", free_port()
    config.write_text(yaml.safe_dump(tiny_run(clip_set, output, **RUN)))
    logs = [tmp_path / "0.log", tmp_path / "1.log"]
    pods = [pod(index, port, config, output, logs[index]) for index in range(2)]
    killed = False
    try:
        while any(p.poll() is None or p.returncode for p in pods):
            if not killed and any("update 5/" in log.read_text() for log in logs):
                end(pods[1])
                killed = True
            for index, p in enumerate(pods):
                if p.poll():  # as the Job does: a pod that fails starts again
                    pods[index] = pod(index, port, config, output, logs[index])
            time.sleep(0.1)
    finally:
        for p in pods:
            if p.poll() is None:
                end(p)
    said = "".join(log.read_text() for log in logs)
    assert killed, said
    assert "going on after update" in said
    one, other = (load_checkpoint(tmp_path / n / "checkpoint") for n in ("calm", "troubled"))
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
