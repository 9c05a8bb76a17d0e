"""What Ray has started for a run: its processes, found below that run's own."""

from __future__ import annotations

import psutil


def below(pid: int, title: str) -> list[psutil.Process]:
    """The living processes below one whose title begins so, as Ray sets it."""
    found = []
    for process in psutil.Process(pid).children(recursive=True):
        try:
            command = process.cmdline()
            if command and command[0].startswith(title):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found
