# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel as jobs and the judge meet it: one seam, behind which a test may put a kernel of its own."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Protocol

from klpd.daemon.stragglers import straggler
from klpd.errors import KernelError
from klpd.judge.declared import stack_with_manifests
from klpd.kernel import modules, sysfs
from klpd.kernel.log import KernelLog
from klpd.kernel.stack import read_stack
from klpd.kernel.tasks import TaskState, read_task
from klpd.report import Transition

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.daemon.transitions import Transitions
    from klpd.judge.rules import Policy
    from klpd.kernel.guard import Guard
    from klpd.kernel.memory import KernelMemory
    from klpd.kernel.stack import Known
    from klpd.model import Stack

_APPROVAL_SECONDS: Final = 30.0
_MOST_LOOKED_INTO: Final = 64
"""Of more stragglers, which a transition has when it begins, nobody wants to see the stacks."""
_PATCHED: Final = 1  # KLP_PATCHED, or KLP_TRANSITION_PATCHED since Linux 6.10; KLP_UNPATCHED is 0


class Kernel(Protocol):
    """What a sequence does to a kernel and sees of it.  Every method may raise KernelError."""

    def stack(self) -> Stack: ...

    def load(self, data: bytes, name: str, generation: int) -> None:
        """Load these bytes, which were judged against the stack of that generation."""
        ...

    def set_enabled(self, name: str, *, enabled: bool) -> None: ...

    def force(self, name: str) -> None:
        """Force the livepatch's transition to its end."""
        ...

    def remove(self, name: str) -> None: ...

    def transition(self, stack: Stack) -> Transition | None:
        """How far the transition of `stack` is; None where none runs."""
        ...

    def wait(self, stack: Stack, seconds: float) -> None:
        """Wait until a transition may have begun or ended since `stack` was read, or for so long, or until `wake`."""
        ...

    def wake(self) -> None: ...


class RunningKernel:
    """The kernel that klpd runs on.  `memory` and `guard` are None where the kernel does not let klpd have them.

    `policy` gives the policy, for what the site's manifests declare of the livepatches in force.
    """

    def __init__(
        self,
        memory: KernelMemory | None,
        guard: Guard | None,
        known: Known,
        transitions: Transitions,
        policy: Callable[[], Policy],
    ) -> None:
        self._memory = memory
        self._policy = policy
        self._guard = guard
        self._known = known
        self._transitions = transitions

    def stack(self) -> Stack:
        generation = 0 if self._guard is None else self._guard.generation()
        return stack_with_manifests(read_stack(self._memory, self._known, generation=generation), self._policy())

    def load(self, data: bytes, name: str, generation: int) -> None:
        with KernelLog() as log:
            try:
                self._load(data, name, generation)
            except KernelError as error:
                raise KernelError(f"cannot load {name}", error.errno, log.complaints()) from error

    def _load(self, data: bytes, name: str, generation: int) -> None:
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

    def force(self, name: str) -> None:
        sysfs.write_force(name)

    def remove(self, name: str) -> None:
        modules.remove_module(name)

    def transition(self, stack: Stack) -> Transition | None:
        moving = stack.transition
        if moving is None:
            return None
        since = self._transitions.since(stack)
        goal = _PATCHED if moving.enabled else 0
        tasks = () if self._memory is None else self._memory.read_tasks()
        late = [each for each in tasks if each.patch_state != goal]
        return Transition(
            livepatch=moving.name,
            goal="patched" if moving.enabled else "unpatched",
            tasks=len(tasks),
            stragglers=tuple(
                straggler(
                    each,
                    read_task(each.pid) if len(late) <= _MOST_LOOKED_INTO else TaskState(),
                    stack,
                    since=since,
                )
                for each in late
            ),
            since=since,
        )

    def wait(self, stack: Stack, seconds: float) -> None:
        self._transitions.wait(stack.generation, seconds)

    def wake(self) -> None:
        self._transitions.wake()
