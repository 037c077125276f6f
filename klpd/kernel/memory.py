# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's list of livepatches and the tasks in transition, read from its memory by bpf/stack.bpf.c.

What a livepatch's states are is shown nowhere else; nor is, before Linux 6.12, whether it replaces.
"""

from __future__ import annotations

import errno
import struct
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from klpd.errors import GuardError, KernelError
from klpd.kernel import bpf
from klpd.kernel.bpf.handles import BpfObject
from klpd.kernel.names import readable
from klpd.kernel.switches import addresses_are_hidden, memory_is_confidential
from klpd.model import State

if TYPE_CHECKING:
    from pathlib import Path

# bpf/stack.h
_HEADER: Final = struct.Struct("=II")
_PATCH: Final = struct.Struct("=56sBBBBBBBBB7x")
_STATE: Final = struct.Struct("=QQ")
_TASK: Final = struct.Struct("=iii16s")
_KNOWN_REPLACE: Final = 1
_KNOWN_FORCED: Final = 2
_KNOWN_STATES: Final = 4
_KNOWN_OBJECTS: Final = 8
_WALKS: Final = 10
_CONFIDENTIAL: Final = "lockdown=confidentiality forbids BPF programs to do so; lockdown=integrity allows it"
_HIDDEN: Final = (
    "the kernel does not tell where its list of livepatches is (kernel.kptr_restrict=2); "
    "sysctl kernel.kptr_restrict=1, and systemctl restart klpd"
)


@dataclass(frozen=True, slots=True)
class MemoryLivepatch:
    """A member of klp_patches.  None where this kernel does not have it, or there are too many of them to read.

    `coming`: its transition has not started; what is to be done before may still fail (__klp_enable_patch in
    kernel/livepatch/core.c).  `misnamed`: it waits for a module that is named as the kernel itself is.
    """

    name: str
    enabled: bool
    transition: bool
    replace: bool | None
    forced: bool | None
    states: tuple[State, ...] | None
    coming: bool = False
    misnamed: bool | None = None

    @property
    def in_force(self) -> bool:
        """Whether it counts: one that is not enabled, nor on its way out, has not come yet or is gone already."""
        return (self.enabled or self.transition) and not self.coming


@dataclass(frozen=True, slots=True)
class TaskInTransition:
    """A task while a transition runs: `patch_state` is 1 when it is patched, 0 when it is not (struct task_struct).

    `pid` is the thread, `tgid` the process.  Stragglers are those that are not yet where the transition goes.
    """

    pid: int
    tgid: int
    command: str
    patch_state: int


class KernelMemory:
    """The readers, loaded.  May be used from any thread; `close` ends it."""

    def __init__(self, path: Path | None = None) -> None:
        """Raises GuardError where this kernel does not have them, with the reason."""
        path = path or bpf.object_path("stack")
        self._lock = threading.Lock()
        with ExitStack() as opened:
            try:
                programs = opened.enter_context(BpfObject(path))
                programs.load()
                self._patches = opened.enter_context(programs.map("patches"))
                self._walk = opened.enter_context(programs.program("walk"))
                self._tasks = opened.enter_context(programs.attach("tasks"))
            except KernelError as error:
                why = _CONFIDENTIAL if memory_is_confidential() else error
                raise GuardError(f"kernel memory cannot be read: {why}") from error
            programs.close()
            if addresses_are_hidden():
                # The readers would find nothing, at an address of 0.
                raise GuardError(f"kernel memory cannot be read: {_HIDDEN}")
            self._opened = opened.pop_all()

    def read_patches(self) -> tuple[MemoryLivepatch, ...]:
        """The installed livepatches, the oldest first.

        Two walks in a row have found the same.  Raises KernelError: EAGAIN where the list did not stand still, E2BIG
        where it is longer than the readers can tell.
        """
        with self._lock:
            found = self._read()
            for _walk in range(_WALKS):
                again = self._read()
                if again == found:
                    return tuple(parse_patch(each) for each in found)
                found = again
        raise KernelError("the kernel's list of livepatches keeps changing", errno.EAGAIN)

    def read_tasks(self) -> tuple[TaskInTransition, ...]:
        """All tasks of the running transition, those done included; none where none runs.  Raises KernelError."""
        return tuple(
            TaskInTransition(pid, tgid, readable(command), patch_state)
            for pid, tgid, patch_state, command in _TASK.iter_unpack(self._tasks.read_iterator())
        )

    def close(self) -> None:
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _read(self) -> list[bytes]:
        _, header = self._walk.run(bytes(_HEADER.size))
        count, truncated = _HEADER.unpack(header)
        if truncated:
            raise KernelError(f"more than {count} livepatches are installed", errno.E2BIG)
        return [self._patches.get(index.to_bytes(4, sys.byteorder)) or b"" for index in range(count)]


def parse_patch(record: bytes) -> MemoryLivepatch:
    """A struct patch_record (bpf/stack.h)."""
    name, known, replace, enabled, forced, transition, truncated, coming, count, misnamed = _PATCH.unpack_from(record)
    states = _STATE.iter_unpack(record[_PATCH.size : _PATCH.size + count * _STATE.size])
    return MemoryLivepatch(
        name=readable(name),
        enabled=bool(enabled),
        transition=bool(transition),
        replace=bool(replace) if known & _KNOWN_REPLACE else None,
        forced=bool(forced) if known & _KNOWN_FORCED else None,
        states=tuple(State(*each) for each in states) if known & _KNOWN_STATES and not truncated else None,
        coming=bool(coming),
        misnamed=bool(misnamed) if known & _KNOWN_OBJECTS else None,
    )
