# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel as jobs and the judge meet it: one seam, behind which a test may put a kernel of its own."""

from __future__ import annotations

import errno
import hashlib
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from klpd.daemon.stragglers import straggler
from klpd.errors import KernelError, OvertakenError
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
    """What a sequence does to a kernel and sees of it.  Every method may raise KernelError.

    `generation` is that of the stack that an action was judged on: where the stack is another by now, nothing is done,
    and OvertakenError is raised.
    """

    def stack(self) -> Stack: ...

    def load(self, data: bytes, name: str, generation: int) -> None:
        """Load these bytes."""
        ...

    def set_enabled(self, name: str, *, enabled: bool, generation: int) -> None:
        """Disable a livepatch, or reverse its transition: which of them the kernel does depends on the stack."""
        ...

    def force(self, name: str, generation: int) -> None:
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


class _Looks:
    """Generations where there is no guard to count them: each look that shows another stack begins one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._generation = 0
        self._last: tuple[tuple[str, bool, bool], ...] = ()

    def numbered(self, look: Callable[[], Stack]) -> Stack:
        with self._lock:
            stack = look()
            seen = tuple((each.name, each.enabled, each.transition) for each in stack.livepatches)
            if seen != self._last:
                self._last = seen
                self._generation += 1
            return replace(stack, generation=self._generation)


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
        self._looks = _Looks()

    def stack(self) -> Stack:
        guard = self._guard
        if guard is not None:
            stack = read_stack(self._memory, self._known, generation=guard.generation())
        else:
            stack = self._looks.numbered(lambda: read_stack(self._memory, self._known))
        return stack_with_manifests(stack, self._policy())

    def load(self, data: bytes, name: str, generation: int) -> None:
        with KernelLog() as log:
            try:
                self._load(data, name, generation)
            except KernelError as error:
                if error.errno == errno.EPERM:  # an approval of another generation is void
                    self._check_generation(f"cannot load {name}", generation)
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

    def set_enabled(self, name: str, *, enabled: bool, generation: int) -> None:
        self._check_generation(f"{name} was not {'enabled' if enabled else 'disabled'}", generation)
        sysfs.write_enabled(name, enabled=enabled)

    def force(self, name: str, generation: int) -> None:
        self._check_generation(f"the transition of {name} was not forced", generation)
        sysfs.write_force(name)

    def _check_generation(self, what: str, generation: int) -> None:
        present = self.stack().generation if self._guard is None else self._guard.generation()
        if present != generation:
            raise OvertakenError(what)

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
