# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc tells of a thread that waits in the kernel: whose it is, and whether it is loading a module (proc(5))."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from klpd.errors import KernelError
from klpd.kernel.modules import finit_module_numbers
from klpd.kernel.names import readable

PROC: Final = Path("/proc")
_INIT: Final = 1
_GONE: Final = frozenset({errno.ENOENT, errno.ESRCH})


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread, the process that it is of, the real user id and the name that it goes by."""

    tid: int
    pid: int
    uid: int
    command: str


def read_thread(tid: int, proc: Path = PROC) -> Thread:
    """Who a thread is.  Raises KernelError: ENOENT or ESRCH where it is gone."""
    lines = _read(proc / str(tid) / "status").split(b"\n")
    fields = dict(line.split(b":\t", 1) for line in lines if b":\t" in line)
    return Thread(tid, int(fields[b"Tgid"]), int(fields[b"Uid"].split()[0]), readable(fields[b"Name"]))


def is_loading(tid: int, proc: Path = PROC) -> bool | None:
    """Whether the thread is in finit_module(2), which one that is gone is not.

    None while it runs, as whoever is about to wait does for a moment.  By the number of its system call:
    proc_pid_syscall in fs/proc/base.c.  Raises KernelError where that may not be seen (see `check_access`).
    """
    try:
        call = _read(proc / str(tid) / "syscall").split()[0]
    except KernelError as error:
        if error.errno in _GONE:
            return False
        raise
    return None if call == b"running" else int(call) in finit_module_numbers()


def check_access(proc: Path = PROC) -> None:
    """Raises KernelError where other processes' system calls cannot be seen: without CAP_SYS_PTRACE (EPERM), or where
    a security module forbids it even so, as Yama does with kernel.yama.ptrace_scope=3."""
    _read(proc / str(_INIT) / "syscall")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KernelError.of(f"cannot read {path}", error) from error
