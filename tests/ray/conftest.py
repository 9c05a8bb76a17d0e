"""What Ray has started for a run: its processes, found below that run's own, and what they open."""

from __future__ import annotations

import contextlib

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


def listening(pid: int) -> set[str]:
    """The addresses at which processes below one listen for connections."""
    found = set()
    for process in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            for socket in process.net_connections("inet"):
                if socket.status == psutil.CONN_LISTEN:
                    found.add(socket.laddr.ip.removeprefix("::ffff:"))
    return found
