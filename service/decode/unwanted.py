"""A job that nobody wants any more, seen from inside a worker."""

from __future__ import annotations

import select
import socket


class Unwanted(Exception):
    """Nobody wants the job any more."""


def check_wanted(parent: socket.socket) -> None:
    """Raise Unwanted where the parent has something to say while a job is decoded.

    That can only be that it is not wanted. The message is left for who reads the next one.
    """
    # Of its own each time: the threads of a job look at once.
    coming = select.poll()
    coming.register(parent, select.POLLIN)
    if coming.poll(0):
        raise Unwanted
