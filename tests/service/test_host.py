"""What the system under the service may lack: found at the start, done without or named in a line.

A filter of system calls makes the kernel answer as one would that does not have the call.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT, missing
from tests.service.conftest import RunningServer, fake_runtime, running

LABELS = {"labels": '["a", "b"]'}
# Run a program on a system without some calls: NAME, or NAME=N where its first argument is N.
WITHOUT = """
import os, sys, pyseccomp
calls, program = sys.argv[1].split(","), sys.argv[2:]
rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
for call in calls:
    name, _, value = call.partition("=")
    only = [pyseccomp.Arg(0, pyseccomp.EQ, int(value))] if value else []
    rules.add_rule(pyseccomp.ERRNO(22 if value else 38), name, *only)
rules.load()
os.execv(program[0], program)
"""
SECCOMP = "seccomp,prctl=22"  # the call, and PR_SET_SECCOMP
LANDLOCK = "landlock_create_ruleset"


def without(calls: str, *flags: str) -> list[str]:
    server = [sys.executable, "-m", "service", "--port", "0", "--decode-workers", "1", *flags]
    return [sys.executable, "-c", WITHOUT, calls, *server]


@contextlib.contextmanager
def serving(command: list[str]) -> Iterator[httpx.Client]:
    """A client of the server that a command starts, once it is ready."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        try:
            while "is ready" not in (line := process.stdout.readline()):
                assert line, process.stderr.read() if process.stderr else ""
            url = line.split()[1]
            with httpx.Client(base_url=url, timeout=None) as client:
                yield client
        finally:
            process.terminate()
            process.communicate()


def refused(command: list[str]) -> str:
    """The one line with which the server does not start."""
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    said = [line for line in ended.stderr.splitlines() if line.startswith("service:")]
    assert len(said) == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    return said[0]


@pytest.mark.parametrize(
    ("calls", "measure"), [(SECCOMP, "seccomp"), (LANDLOCK, "landlock"), ("memfd_create", None)]
)
def test_what_can_be_done_without_is_named(calls: str, measure: str | None, clip: bytes) -> None:
    with serving(without(calls)) as client:
        answer = client.post("/classify", files={"video": clip}, data=LABELS)
        assert answer.status_code == 200, answer.text
        sandbox = client.get("/readyz").json()["sandbox"]
        lacking = {name: how for name, how in sandbox.items() if not how.startswith("yes")}
        assert set(lacking) == ({measure} if measure else set())
        metrics = client.get("/metrics").text
    for name in sandbox:
        assert f'xclip_sandbox{{measure="{name}"}} {float(name != measure)}' in metrics


def test_what_is_required_and_lacking_ends_the_start() -> None:
    said = refused(without(f"{SECCOMP},{LANDLOCK}", "--sandbox", "require"))
    assert "landlock (no: OSError: [Errno 38]" in said
    assert "seccomp (no: libseccomp cannot make a filter" in said
    assert "XCLIP_SANDBOX=require" in said


def test_what_is_required_and_there_starts() -> None:
    with running(fake_runtime(), sandbox="require") as server:
        assert set(server.client.get("/readyz").json()["sandbox"].values()) == {"yes"}


def test_no_folder_for_uploads_is_one_line() -> None:
    unshare = shutil.which("unshare")
    if not unshare or subprocess.run([unshare, "-r", "true"], check=False).returncode:
        missing("user namespaces")
    server = [sys.executable, "-B", "-m", "service", "--port", "0"]
    read_only = (
        "for at in $(awk '{print $2}' /proc/mounts); do mount -o remount,bind,ro $at; done "
        '2>/dev/null; exec "$@"'
    )
    command = [unshare, "-r", "--mount", "sh", "-c", read_only, "sh", *server]
    said = refused(command)
    assert "uploads cannot be stored" in said
    assert "--upload-dir" in said


def test_uploads_that_cannot_be_opened_again_are_decoded(
    monkeypatch: pytest.MonkeyPatch, clip: bytes
) -> None:
    """As on file systems that forget a file whose name is gone."""
    real = os.open

    def forgetful(path: str | Path, flags: int, *more: int, **named: int) -> int:
        if str(path).startswith("/proc/self/fd/") and "(deleted)" in os.readlink(path):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", forgetful)
    with running(fake_runtime()) as server:
        for _ in range(2):
            answer = server.classify(clip, **LABELS)
            assert answer.status_code == 200, answer.text
            clip += b"\0"


def no_memory_for_frames(*_: object) -> object:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_system_on_which_no_clip_can_be_decoded_is_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.decode.handover.FrameMemory", no_memory_for_frames)
    server = RunningServer(fake_runtime()).begin()
    try:
        server._loaded.wait()
        assert "a sample clip cannot be decoded: no memory for frames" in (
            server.server.failure or ""
        )
        assert server.client.get("/readyz").status_code == 503
    finally:
        server.stop()


def test_not_ready_for_as_long_as_no_clip_reaches_a_worker(clip: bytes) -> None:
    with running(fake_runtime()) as server:
        with pytest.MonkeyPatch.context() as lost:
            lost.setattr("service.decode.handover.FrameMemory", no_memory_for_frames)
            assert server.classify(clip, **LABELS).status_code == 503
            told = server.client.get("/readyz")
            assert (told.status_code, told.json()["code"]) == (503, "not_ready")
            assert "decode workers" in told.json()["detail"]
        assert server.client.get("/readyz").status_code == 200
        assert json.loads(server.classify(clip, **LABELS).text)["predictions"]
