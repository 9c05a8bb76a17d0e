"""The system calls a decode worker may make, compiled once in the parent.

The list was measured: strace over the whole corpus of odd files and real clips, from the moment a
worker is ready. What is missing is answered with EPERM rather than death, so that a library that
only tries something (a thread, a terminal, a configuration file) fails in its own clean way and
the client gets a plain refusal. Calls that no decoder ever has a reason for kill the process: there
someone has taken over the worker, and it should not get a second try.
"""

from __future__ import annotations

import base64
import errno
import mmap
import os

ALLOWED = (
    # the upload and the frame memory
    "read", "pread64", "lseek", "close", "fstat", "newfstatat", "fcntl",
    # memory; mapping is allowed below, never executable
    "munmap", "mremap", "brk", "madvise",
    # the socket to the parent, which is open already
    "poll", "ppoll", "recvmsg", "sendto",
    # locks, time and randomness; most of them only where the kernel gives no quicker way
    "futex", "sched_yield", "clock_gettime", "gettimeofday", "clock_nanosleep", "getrandom",
    "getpid", "gettid", "rt_sigreturn", "restart_syscall", "exit", "exit_group",
)  # fmt: skip
MAPPING = ("mmap", "mprotect")
DEADLY = (
    "execve", "execveat", "fork", "vfork", "socket", "socketpair", "connect", "bind", "listen",
    "accept", "accept4", "ptrace", "process_vm_readv", "process_vm_writev", "kill", "bpf",
    "io_uring_setup", "mount", "unshare", "setns", "keyctl", "userfaultfd", "perf_event_open",
    "pidfd_getfd",
)  # fmt: skip
PROTECTION_ARGUMENT = 2


class FilterUnavailable(RuntimeError):
    """No filter can be compiled here; the message says what to install."""


def compile_filter() -> str:
    """The filter for this machine's processor as BPF in base64. Raises FilterUnavailable."""
    try:
        import pyseccomp
    except (ImportError, RuntimeError, OSError) as error:
        raise FilterUnavailable(
            "pyseccomp or libseccomp is missing: install xclip-serve[sandbox] and the system's "
            f"libseccomp2 ({error})"
        ) from error
    rules = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for name in ALLOWED:
        _add(pyseccomp, rules, pyseccomp.ALLOW, name)
    not_executable = pyseccomp.Arg(PROTECTION_ARGUMENT, pyseccomp.MASKED_EQ, mmap.PROT_EXEC, 0)
    for name in MAPPING:
        _add(pyseccomp, rules, pyseccomp.ALLOW, name, not_executable)
    for name in DEADLY:
        _add(pyseccomp, rules, pyseccomp.KILL_PROCESS, name)
    return base64.b64encode(_exported(rules)).decode()


def _add(library: object, rules: object, action: int, name: str, *conditions: object) -> None:
    """Add a rule, passing over calls that this processor does not have."""
    number = library.resolve_syscall(library.Arch.NATIVE, name)  # type: ignore[attr-defined]
    if number >= 0:
        rules.add_rule(action, number, *conditions)  # type: ignore[attr-defined]


def _exported(rules: object) -> bytes:
    """The filter's instructions; some hundred of them, so that a pipe holds them."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source:
        with os.fdopen(writing, "wb") as sink:
            rules.export_bpf(sink)  # type: ignore[attr-defined]
        return source.read()
