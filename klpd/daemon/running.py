# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel as jobs and the judge meet it: one seam, behind which a test may put a kernel of its own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Protocol

from klpd.kernel import modules, sysfs
from klpd.kernel.stack import read_stack
from klpd.report import Straggler

if TYPE_CHECKING:
    from klpd.kernel.guard import Guard
    from klpd.kernel.memory import KernelMemory
    from klpd.kernel.stack import Known
    from klpd.model import Stack

_APPROVAL_SECONDS: Final = 30.0


class Kernel(Protocol):
    """What a sequence does to a kernel and sees of it.  Every method may raise KernelError."""

    def stack(self) -> Stack: ...

    def load(self, data: bytes, name: str, generation: int) -> None:
        """Load these bytes, which were judged against the stack of that generation."""
        ...

    def set_enabled(self, name: str, *, enabled: bool) -> None: ...

    def remove(self, name: str) -> None: ...

    def tasks(self) -> tuple[tuple[Straggler, int], ...]:
        """The tasks with a patch state, which is 0 (unpatched) or 1 (patched); none outside a transition."""
        ...


class RunningKernel:
    """The kernel that klpd runs on.  `memory` and `guard` are None where the kernel does not let klpd have them."""

    def __init__(self, memory: KernelMemory | None, guard: Guard | None, known: Known) -> None:
        self._memory = memory
        self._guard = guard
        self._known = known

    def stack(self) -> Stack:
        generation = 0 if self._guard is None else self._guard.generation()
        return read_stack(self._memory, self._known, generation=generation)

    def load(self, data: bytes, name: str, generation: int) -> None:
        if self._guard is None:
            modules.load_module(data, name)
            return
        digest = hashlib.sha256(data).digest()
        self._guard.approve(digest, seconds=_APPROVAL_SECONDS, generation=generation)
        try:
            modules.load_module(data, name)
        finally:
            self._guard.withdraw(digest)

    def set_enabled(self, name: str, *, enabled: bool) -> None:
        sysfs.write_enabled(name, enabled=enabled)

    def remove(self, name: str) -> None:
        modules.remove_module(name)

    def tasks(self) -> tuple[tuple[Straggler, int], ...]:
        if self._memory is None:
            return ()
        return tuple(
            (Straggler(pid=each.tgid, tid=each.pid, command=each.command), each.patch_state)
            for each in self._memory.read_stragglers()
        )
