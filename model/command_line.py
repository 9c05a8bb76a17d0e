"""Command lines that say what is wrong in one line, before any work is done."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


def sleep_while_waiting() -> None:
    """Have torch's threads sleep while they wait for each other; call before torch loads.

    At the end of every product the threads of OpenMP meet, and those that are there first spin.
    Beside other work the last one may not be running at all: they then spin in its place, and two
    threads are many times slower than one. What the environment says of this counts.
    """
    if not os.environ.keys() & {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"}:
        os.environ["OMP_WAIT_POLICY"] = "passive"


def one_line(error: object) -> str:
    """Return a message of several lines, or an exception's, as one line."""
    return " ".join(str(error).split())


class Parser(argparse.ArgumentParser):
    """Say what is wrong in one line; --help has the rest."""

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        # "python -m PACKAGE …" is told as PACKAGE, "xclip-serve VERB" as it is
        program = self.prog.split()[2] if self.prog.startswith("python -m ") else self.prog
        self.exit(2, f"{program}: {one_line(message)} (see {self.prog} --help)\n")


def whole(least: int) -> Callable[[str], int]:
    """Return the type of an option that is a whole number, at least so large."""

    def read(text: str) -> int:
        if not text.lstrip("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least}, not {text}")
        return int(text)

    return read


def share(text: str) -> float:
    """Read an option that is a part of something: from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 1, not {text}")
    return value


def new_file(text: str) -> Path:
    """Read an option that names a file to write: its folder is there."""
    file = Path(text)
    if file.is_dir() or not file.parent.is_dir():
        raise argparse.ArgumentTypeError(
            f"cannot write {file}: name a file in a folder that exists"
        )
    return file
