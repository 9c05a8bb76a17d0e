"""Training runs as processes of their own, as a person starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]


def command(config: dict[str, Any], processes: int = 1) -> list[str]:
    """The command line of a run; its configuration is written beside the run's folder."""
    output = Path(config["output"])
    file = output.parent / f"{output.name}-{processes}.yaml"
    file.write_text(yaml.safe_dump(config))
    run = ["-m", "model.train", "--config", str(file)]
    if processes == 1:
        return [sys.executable, *run]
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *launch, *run]


def environment() -> dict[str, str]:
    """One thread each: two suites may run side by side on two cores."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def finished(
    arguments: Sequence[str], before_exec: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to the end."""
    return subprocess.run(
        arguments,
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        preexec_fn=before_exec,
    )


def stopped_after(
    arguments: Sequence[str], update: int, signal: int, *, group: bool = False
) -> tuple[int, str]:
    """Send a signal as soon as that update is reported; exit status and what was said after.

    `group` sends it to every process of the run's group, as a closed terminal does. The run heeds
    all signals, also where this suite runs under nohup or in the background of a script.
    """
    with subprocess.Popen(
        ["env", "--default-signal", *arguments],
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=group,
    ) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if line.startswith(f"update {update}/"):
                if group:
                    os.killpg(process.pid, signal)
                else:
                    process.send_signal(signal)
                break
        else:
            raise AssertionError(f"the run ended before update {update}: {said}")
        _, rest = process.communicate()
    return process.returncode, rest
