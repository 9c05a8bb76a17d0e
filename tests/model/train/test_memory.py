"""Memory that updates give back."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from tests.model.train.processes import ROOT, environment

# Ten times 192 MB in pieces that malloc may place in its heap, each page touched, all given back.
PROGRAM = """
import ctypes, resource, sys
from model.train.glibc_malloc import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit(77)
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes = [ctypes.c_size_t], [ctypes.c_void_p]
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    pieces = [libc.malloc(16 << 20) for _ in range(12)]
    for piece in pieces:
        ctypes.memset(piece, 1, 16 << 20)
    for piece in pieces:
        libc.free(piece)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, how],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    if run.returncode == 77:
        pytest.skip("this C library has no such setting")
    assert run.returncode == 0, run.stderr
    return int(run.stdout)


def test_pages_are_filled_once_not_in_every_update() -> None:
    once = 12 * (16 << 20) // resource.getpagesize()
    assert faults("kept") < 2 * once
    assert faults("given back") > 5 * once
