"""Take away from this process everything that decoding does not need. Runs in the worker.

Each measure is tried by itself: an old kernel or a narrow container lacks some, and the outcome
says which. Nothing here can be undone by the process afterwards.
"""

from __future__ import annotations

import base64
import ctypes
import os
import resource
import signal
import struct
from collections.abc import Callable
from pathlib import Path

from model.inputs.video.allocation import limit_libav_allocations
from service.decode.protocol import YES, Confinement

PR_SET_PDEATHSIG = 1
PR_SET_SECCOMP = 22
PR_SET_NO_NEW_PRIVS = 38
SECCOMP_MODE_FILTER = 2
BPF_INSTRUCTION_BYTES = 8
CAPABILITY_VERSION_3 = 0x20080522
# The same numbers on every processor.
LANDLOCK_CREATE_RULESET = 444
LANDLOCK_RESTRICT_SELF = 446
LANDLOCK_ASK_VERSION = 1
# How many file-system rights each Landlock version has, then network and scope rights.
LANDLOCK_FS_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
LANDLOCK_NET_SINCE, LANDLOCK_NET = 4, 0b11
LANDLOCK_SCOPE_SINCE, LANDLOCK_SCOPE = 6, 0b11
# What the later versions of Landlock forbid as well, and the Linux that brought them.
LANDLOCK_ADDED = (
    (2, "moving files", "5.19"),
    (3, "truncating files", "6.2"),
    (4, "network ports", "6.7"),
    (5, "device commands", "6.10"),
    (6, "signals", "6.12"),
)
# Address space beyond what is allocated: stacks, alignment, FFmpeg's and Python's reservations.
SPARE_ADDRESS_BYTES = 128 << 20
# Threads and processes of the whole user beyond which a worker starts no thread: a bound on one
# that was taken over, far above what a service and its workers have.
MOST_TASKS = 4096
_libc = ctypes.CDLL(None, use_errno=True)


def confine(limits: Confinement) -> dict[str, str]:
    """Confine this process.

    Returns:
        Each measure with "yes", "yes, without" what this kernel lacks of it, or "no" and why.
    """
    measures: dict[str, Callable[[], str]] = {
        "libav_alloc": lambda: _limit_libav(limits.libav_alloc_bytes),
        "oom_first": _be_killed_first,
        "limits": lambda: _set_limits(limits),
        "capabilities": _drop_capabilities,
        "no_new_privs": lambda: _prctl(PR_SET_NO_NEW_PRIVS, 1),
        "parent_death": lambda: _prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        "landlock": _forbid_files,
        # Last, because it forbids all of the above.
        "seccomp": lambda: _filter_calls(limits),
    }
    outcomes = {name: outcome_of(measure) for name, measure in measures.items()}
    if not outcomes["seccomp"].startswith(YES):
        # Nothing tells threads from processes then: neither may be started.
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    return outcomes


def outcome_of(measure: Callable[[], str]) -> str:
    """Take a measure; return what it reports, or "no" and why it failed."""
    try:
        return measure()
    except (OSError, RuntimeError, ValueError) as error:
        return f"no: {type(error).__name__}: {error}"[:200]


def _limit_libav(max_bytes: int) -> str:
    limit_libav_allocations(max_bytes)
    return YES


def _be_killed_first() -> str:
    """Have the kernel end a worker, which is replaced, before the service when memory runs out."""
    Path("/proc/self/oom_score_adj").write_text("1000")
    return YES


def _set_limits(limits: Confinement) -> str:
    """Set the resource limits; those of memory count from what the started process has."""
    size, _, _, _, _, data, _ = (
        int(pages) * resource.getpagesize()
        for pages in Path("/proc/self/statm").read_text().split()
    )
    space = size + limits.memory_bytes + limits.shared_bytes + SPARE_ADDRESS_BYTES
    for what, most in (
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_DATA, data + limits.memory_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_NPROC, MOST_TASKS),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
    ):
        resource.setrlimit(what, (most, most))
    return YES


def _drop_capabilities() -> str:
    header = struct.pack("Ii", CAPABILITY_VERSION_3, 0)
    _checked(_libc.capset(header, bytes(24)))
    return YES


def _prctl(option: int, value: int) -> str:
    unused = ctypes.c_ulong(0)
    _checked(_libc.prctl(option, ctypes.c_ulong(value), unused, unused, unused))
    return YES


def _forbid_files() -> str:
    """Restrict this process to a Landlock ruleset that handles every right and grants none."""
    version = _checked(
        _libc.syscall(LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_ASK_VERSION)
    )
    rights = LANDLOCK_FS_RIGHTS[min(version, max(LANDLOCK_FS_RIGHTS))]
    handled = [(1 << rights) - 1]
    if version >= LANDLOCK_NET_SINCE:
        handled.append(LANDLOCK_NET)
    if version >= LANDLOCK_SCOPE_SINCE:
        handled.append(LANDLOCK_SCOPE)
    ruleset = struct.pack(f"{len(handled)}Q", *handled)
    fd = _checked(_libc.syscall(LANDLOCK_CREATE_RULESET, ruleset, ctypes.c_size_t(len(ruleset)), 0))
    try:
        _checked(_libc.syscall(LANDLOCK_RESTRICT_SELF, fd, 0))
    finally:
        os.close(fd)
    return _landlock_outcome(version)


def _landlock_outcome(version: int) -> str:
    lacking = [(what, linux) for since, what, linux in LANDLOCK_ADDED if version < since]
    if not lacking:
        return YES
    return f"{YES}, without {', '.join(what for what, _ in lacking)}: needs Linux {lacking[-1][1]}"


def _filter_calls(limits: Confinement) -> str:
    if not limits.seccomp_program:
        return f"no: {limits.seccomp_missing}"[:200]
    instructions = base64.b64decode(limits.seccomp_program)
    # struct sock_fprog: a count, padding to pointer size, and the address of the instructions
    held = ctypes.create_string_buffer(instructions, len(instructions))
    count = len(instructions) // BPF_INSTRUCTION_BYTES
    header = struct.pack("@HP", count, ctypes.addressof(held))
    _checked(_libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(SECCOMP_MODE_FILTER), header))
    return YES


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
