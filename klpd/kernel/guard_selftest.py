# SPDX-License-Identifier: GPL-2.0-or-later
"""Does the guard see what is loaded?  A livepatch that no kernel can run is loaded, and must be refused by the guard.

Attaching says nothing: on a kernel without `bpf` in lsm= it succeeds, and the programs never run.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import secrets
import struct
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from klpd.errors import KernelError
from klpd.kernel.guard_abi import GuardEvent, GuardMode, GuardVerdict, SwitchEvent, Way
from klpd.kernel.modules import load_module
from klpd.kernel.switches import FTRACE_ENABLED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from klpd.kernel.guard_abi import Event

_NATIVE: Final = "<" if sys.byteorder == "little" else ">"
# include/uapi/linux/elf.h: Elf64_Ehdr, Elf64_Shdr
_EHDR: Final = struct.Struct(f"{_NATIVE}4sBBBB8xHHIQQQIHHHHHH")
_SHDR: Final = struct.Struct(f"{_NATIVE}IIQQQQIIQQ")
_ET_REL: Final = 1
_EM_NONE: Final = 0
_SHT_PROGBITS: Final = 1
_SHT_STRTAB: Final = 3
_SHF_ALLOC: Final = 2


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way of loading that was tried, and the error that it ended with; 0 is none."""

    way: Way
    errno: int


@dataclass(frozen=True, slots=True)
class Trial:
    """The self-test's loads.  The guard's word on them comes by its ring."""

    digest: str
    attempts: tuple[Attempt, ...]

    def complaints(self, events: Iterable[Event], mode: GuardMode) -> Iterator[str]:
        """What is wrong with a guard in `mode` that told of `events`: nothing, if it is as it should be."""
        seen = {each.way: each for each in events if isinstance(each, GuardEvent) and each.digest == self.digest}
        for attempt in self.attempts:
            event = seen.get(attempt.way)
            if event is None:
                yield f"it does not see {attempt.way} (which said: {_told(attempt.errno)})"
            elif mode is GuardMode.ENFORCE and (event.verdict is not GuardVerdict.UNAPPROVED or event.allowed):
                yield f"it let pass an unapproved livepatch that came by {attempt.way} ({event.verdict})"
            elif mode is GuardMode.ENFORCE and attempt.errno != errno.EPERM:
                yield f"it refused {attempt.way}, which yet said: {_told(attempt.errno)}"


@dataclass(frozen=True, slots=True)
class SwitchTrial:
    """The self-test's write to kernel.ftrace_enabled: by which thread, and the error that it ended with."""

    tid: int
    errno: int

    def complaints(self, events: Iterable[Event], mode: GuardMode, *, may: bool) -> Iterator[str]:
        """As Trial's; `may`: the guard lets it be switched off in any mode."""
        seen = [each for each in events if isinstance(each, SwitchEvent) and each.tid == self.tid]
        refuses = mode is GuardMode.ENFORCE and not may
        if not seen:
            yield f"it does not see writes to kernel.ftrace_enabled (which said: {_told(self.errno)})"
        elif refuses and seen[-1].allowed:
            yield f"it lets kernel.ftrace_enabled be switched off ({seen[-1].verdict})"
        elif refuses and self.errno != errno.EPERM:
            yield f"it refused a write to kernel.ftrace_enabled, which yet said: {_told(self.errno)}"


def try_to_switch(path: Path = FTRACE_ENABLED) -> SwitchTrial:
    """Write to the switch what is no number: past the guard, proc_dointvec (kernel/sysctl.c) refuses it with EINVAL.

    Nothing of this is told by inotify(7) as a change, as O_TRUNC would be: whoever tests when the switch has changed is
    not to be told of his own test.
    """
    code = 0
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, b"klpd")
        finally:
            os.close(fd)
    except OSError as error:
        code = error.errno or errno.EIO
    return SwitchTrial(threading.get_native_id(), code)


def is_own(event: Event, trial: Trial) -> bool:
    """Whether an event is about what this thread has tried."""
    if isinstance(event, GuardEvent):
        return event.digest == trial.digest
    return isinstance(event, SwitchEvent) and event.tid == threading.get_native_id()


def try_to_load() -> Trial:
    """Load an impossible livepatch by each way.  Needs CAP_SYS_MODULE; its bytes are new each time."""
    data = impossible_livepatch(f"klpd_selftest_{secrets.token_hex(8)}")
    return Trial(
        digest=hashlib.sha256(data).hexdigest(),
        attempts=(Attempt(Way.FILE, load_from_file(data)), Attempt(Way.BUFFER, load_from_buffer(data))),
    )


def impossible_livepatch(name: str) -> bytes:
    """A relocatable ELF file for no machine, with nothing in it but a .modinfo that calls it a livepatch.

    Past the guard, elf_validity_check (kernel/module/main.c) refuses it with ENOEXEC.
    """
    modinfo = f"livepatch=Y\0name={name}\0".encode()
    names = b"\0.modinfo\0.shstrtab\0"
    modinfo_at = _EHDR.size
    names_at = modinfo_at + len(modinfo)
    table_at = (names_at + len(names) + 7) & ~7
    header = _EHDR.pack(
        b"\x7fELF", 2, 1 if sys.byteorder == "little" else 2, 1, 0, _ET_REL, _EM_NONE, 1, 0, 0, table_at, 0,
        _EHDR.size, 0, 0, _SHDR.size, 3, 2,
    )  # fmt: skip
    table = (
        _SHDR.pack(*[0] * 10)
        + _SHDR.pack(names.index(b".modinfo"), _SHT_PROGBITS, _SHF_ALLOC, 0, modinfo_at, len(modinfo), 0, 0, 1, 0)
        + _SHDR.pack(names.index(b".shstrtab"), _SHT_STRTAB, 0, 0, names_at, len(names), 0, 0, 1, 0)
    )
    return (header + modinfo + names).ljust(table_at, b"\0") + table


def load_from_file(data: bytes) -> int:
    """finit_module(2) of a memfd: the errno, or 0."""
    try:
        load_module(data, "the guard's self-test")
    except KernelError as error:
        return error.errno
    return 0


def load_from_buffer(data: bytes) -> int:
    """init_module(2), which glibc has a symbol for, if no declaration: the errno, or 0."""
    libc = ctypes.CDLL(None, use_errno=True)
    return ctypes.get_errno() if libc.init_module(data, ctypes.c_ulong(len(data)), b"") else 0


def _told(code: int) -> str:
    return os.strerror(code) if code else "success"
