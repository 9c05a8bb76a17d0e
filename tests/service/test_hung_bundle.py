"""A file system that stops to answer, or a network that does: SIGTERM ends the server all the same,
and a time limit the waiting.

The program below is the server with one function that says so and then never returns, from the
moment that a file is there.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from export.bundle import Bundle
from service.lifecycle import engine_loader
from service.lifecycle.bundle_opening import served_bundle
from service.settings import Settings
from tests.conftest import ROOT
from tests.service.conftest import fake_runtime, running, until

PROGRAM = """
import os, pkgutil, sys, threading
owner = pkgutil.resolve_name(os.environ["TEST_OWNER"])
name, armed = os.environ["TEST_FUNCTION"], os.environ["TEST_ARMED"]
real = getattr(owner, name)

def hang(*arguments, **options):
    if os.path.exists(armed):
        os.write(1, b"hangs\\n")  # in one piece, whichever thread does
        threading.Event().wait()
    return real(*arguments, **options)

setattr(owner, name, hang)
from service.transport import graceful_shutdown
graceful_shutdown.LEAVE_AFTER_S = float(os.environ.get("TEST_LEAVE_AFTER_S", "3600"))
from service.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
MANIFEST = ("export.bundle.reading", "read_bounded")
HASHES = ("export.bundle.reading", "sha256_of")
RUNTIME = ("service.lifecycle.bundle_opening", "open_runtime")
NETWORK = ("export.runtime.graph_runtime:GraphRuntime", "warm_up")


@contextmanager
def server(
    place: tuple[str, str], armed: Path, **variables: str
) -> Iterator[subprocess.Popen[str]]:
    """The server, which hangs at this place from when `armed` is there."""
    environment = os.environ | {
        "TEST_OWNER": place[0], "TEST_FUNCTION": place[1], "TEST_ARMED": str(armed),
        "PYTHONPATH": str(ROOT), "XCLIP_PORT": "0", "XCLIP_DECODE_WORKERS": "1", **variables,
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize("place", [MANIFEST, RUNTIME], ids="at {0[1]}".format)
def test_sigterm_ends_a_start_that_hangs(tmp_path: Path, place: tuple[str, str]) -> None:
    (tmp_path / "armed").touch()
    with server(place, tmp_path / "armed") as process:
        assert line_of(process) == "hangs\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


def test_sigterm_ends_a_reload_that_hangs(tmp_path: Path) -> None:
    armed = tmp_path / "armed"
    with server(HASHES, armed) as process:
        assert "is ready" in line_of(process)
        armed.touch()
        process.send_signal(signal.SIGHUP)
        assert line_of(process) == "hangs\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 0


def test_sigterm_ends_a_server_whose_network_never_answers(tmp_path: Path) -> None:
    (tmp_path / "armed").touch()
    hurry = {"TEST_LEAVE_AFTER_S": "0.2", "XCLIP_SHUTDOWN_GRACE_S": "0.1"}
    with server(NETWORK, tmp_path / "armed", **hurry) as process:
        assert line_of(process) == "hangs\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 1
        assert process.stderr is not None
        assert "did not stop in time" in process.stderr.read()


def test_a_start_that_takes_too_long_ends_with_a_line(tmp_path: Path) -> None:
    (tmp_path / "armed").touch()
    with server(MANIFEST, tmp_path / "armed", XCLIP_BUNDLE_TIMEOUT_S="0.1") as process:
        assert process.wait() == 2
        assert process.stderr is not None
        last = process.stderr.read().splitlines()[-1]
        assert last.startswith("service: ")
        assert "XCLIP_BUNDLE_TIMEOUT_S" in last


def test_a_reload_that_takes_too_long_is_refused_and_the_next_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running(fake_runtime()) as started:
        state, reloader = started.server, started.app.state.reloader
        loop, patient = started.web._loop, state.loader
        assert loop is not None
        hurried = patient.settings.model_copy(update={"bundle_timeout_s": 0.05})
        answers = threading.Event()

        def hang(settings: Settings) -> Bundle:
            answers.wait()
            return served_bundle(settings)

        monkeypatch.setattr(engine_loader, "served_bundle", hang)
        state.loader = dataclasses.replace(patient, settings=hurried)
        loop.call_soon_threadsafe(reloader.ask)
        until(lambda: (state.last_reload or "").startswith("refused"))
        assert "XCLIP_BUNDLE_TIMEOUT_S" in str(state.last_reload)
        assert started.client.get("/readyz").status_code == 200
        state.loader = patient
        loop.call_soon_threadsafe(reloader.ask)
        until(lambda: state.last_reload == "running")
        answers.set()
        until(lambda: state.last_reload == "unchanged")
