"""Compile the filter of the system calls that a decode worker may make, once, in the parent.

The list was measured: strace over the whole corpus of odd files and real clips, from the moment a
worker is ready. What is missing is answered with EPERM rather than death, so that a library that
only tries something (a thread, a terminal, a configuration file) fails in its own clean way and
the client gets a plain refusal. Calls that no decoder ever has a reason for kill the process: there
someone has taken over the worker, and it should not get a second try.
"""

from __future__ import annotations

import base64
import errno
import fcntl
import mmap
import os
from typing import Any

from model.command_line import first_line

ALLOWED = (
    # the upload and the frame memory
    "read", "pread64", "lseek", "close", "fstat", "newfstatat",
    # memory; mapping is allowed below, never executable
    "munmap", "mremap", "brk", "madvise",
    # the socket to the parent, which is open already
    "poll", "ppoll", "recvmsg", "sendto",
    # locks, time and randomness; most of them only where the kernel gives no quicker way
    "futex", "sched_yield", "clock_gettime", "gettimeofday", "clock_nanosleep", "getrandom",
    "getpid", "gettid", "rt_sigreturn", "restart_syscall", "exit", "exit_group",
)  # fmt: skip
# Never executable.
MAPPING = ("mmap", "mprotect")
# fcntl can have the kernel send any signal to any process (F_SETOWN, F_SETSIG): only the command
# with which Python's mmap duplicates a descriptor is allowed.
FCNTL_COMMANDS = (fcntl.F_DUPFD_CLOEXEC,)
DEADLY = (
    "execve", "execveat", "fork", "vfork", "socket", "socketpair", "connect", "bind", "listen",
    "accept", "accept4", "ptrace", "process_vm_readv", "process_vm_writev", "kill", "bpf",
    "io_uring_setup", "mount", "unshare", "setns", "keyctl", "userfaultfd", "perf_event_open",
    "pidfd_getfd",
)  # fmt: skip
FLAGS_ARGUMENT, COMMAND_ARGUMENT, PROTECTION_ARGUMENT = 0, 1, 2
# Threads of this process may be started, processes may not. clone3 hides its flags in memory, where
# no filter sees them; glibc uses clone where the kernel has no clone3.
CLONE_THREAD = 0x00010000
THREADS = ("rt_sigprocmask", "set_robust_list", "rseq")


class FilterUnavailable(RuntimeError):
    """No filter can be compiled here; the message says what is missing."""


def compile_filter() -> str:
    """Compile the filter for this machine's processor.

    Returns:
        A program of BPF instructions in base64.

    Raises:
        FilterUnavailable: libseccomp is missing, or the kernel has no system-call filters.
    """
    try:
        import pyseccomp
    except (ImportError, RuntimeError, OSError) as error:
        raise FilterUnavailable(
            "pyseccomp or libseccomp is missing: install xclip-serve[cpu] or [gpu] and the "
            f"system's libseccomp2 ({first_line(error)})"
        ) from error
    try:
        return base64.b64encode(_exported(_rules(pyseccomp))).decode()
    except (OSError, RuntimeError, ValueError) as error:
        # libseccomp asks the kernel which actions it knows.
        raise FilterUnavailable(
            f"libseccomp cannot make a filter; has the kernel seccomp(2)? ({first_line(error)})"
        ) from error


def _rules(pyseccomp: Any) -> Any:
    rules = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for name in (*ALLOWED, *THREADS):
        _add(pyseccomp, rules, pyseccomp.ALLOW, name)
    thread = pyseccomp.Arg(FLAGS_ARGUMENT, pyseccomp.MASKED_EQ, CLONE_THREAD, CLONE_THREAD)
    _add(pyseccomp, rules, pyseccomp.ALLOW, "clone", thread)
    _add(pyseccomp, rules, pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    for command in FCNTL_COMMANDS:
        only = pyseccomp.Arg(COMMAND_ARGUMENT, pyseccomp.EQ, command)
        _add(pyseccomp, rules, pyseccomp.ALLOW, "fcntl", only)
    not_executable = pyseccomp.Arg(PROTECTION_ARGUMENT, pyseccomp.MASKED_EQ, mmap.PROT_EXEC, 0)
    for name in MAPPING:
        _add(pyseccomp, rules, pyseccomp.ALLOW, name, not_executable)
    for name in DEADLY:
        _add(pyseccomp, rules, pyseccomp.KILL_PROCESS, name)
    return rules


def _add(library: Any, rules: Any, action: int, name: str, *conditions: object) -> None:
    """Add a rule, passing over calls that this processor does not have."""
    number = library.resolve_syscall(library.Arch.NATIVE, name)
    if number >= 0:
        rules.add_rule(action, number, *conditions)


def _exported(rules: Any) -> bytes:
    """Return the filter's instructions; some hundred of them, so that a pipe holds them."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source:
        with os.fdopen(writing, "wb") as sink:
            rules.export_bpf(sink)
        return source.read()
