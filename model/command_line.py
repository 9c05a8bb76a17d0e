"""Command lines that say what is wrong in one line, before any work is done."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

# Our programs that are verbs of `xclip-serve`; `model.train` and `model.data.shapes` are none.
PROGRAM = re.compile(
    r"python -m (export(?: verify| inspect)?"
    r"|model\.(?:evaluate(?: compare)?|convert|data)|service(?:\.keys)?)"
    r"(?![\w.]*\w)"
)


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


def first_line(error: BaseException) -> str:
    """Return the first line of what an exception says, or its class where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def as_typed(text: str) -> str:
    """Name programs in a text as their user does: `xclip-serve export` where that was typed."""
    typed = Path(sys.argv[0])
    if typed.name != "xclip-serve" and typed.parent.name != "xclip_serve":
        return text
    return PROGRAM.sub(lambda match: f"xclip-serve {_verb(match[1])}", text)


def _verb(program: str) -> str:
    last = re.split(r"[ .]", program)[-1]
    return "serve" if last == "service" else last


def complaint(program: str, error: object) -> str:
    """Return what is wrong in one line that begins with the program, such as `export: …`."""
    typed = as_typed(program)
    name = typed.split()[2] if typed.startswith("python -m ") else typed
    return f"{name}: {as_typed(one_line(error))}"


class Parser(argparse.ArgumentParser):
    """Say what is wrong in one line; --help has the rest. Programs are named as they were typed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.prog = as_typed(self.prog)

    def format_help(self) -> str:
        """Return all there is to say."""
        return as_typed(super().format_help())

    def error(self, message: str) -> NoReturn:
        """Exit with status 2."""
        self.exit(2, f"{complaint(self.prog, message)} (see {self.prog} --help)\n")


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
