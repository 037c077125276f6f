# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel as jobs and the judge meet it: one seam, behind which a test may put a kernel of its own."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from klpd.daemon.stragglers import straggler
from klpd.errors import KernelError, OvertakenError
from klpd.judge.declared import stack_with_manifests
from klpd.kernel import modules, sysfs
from klpd.kernel.guard_abi import Attribute, GuardApproval
from klpd.kernel.log import KernelLog
from klpd.kernel.stack import read_stack
from klpd.kernel.surroundings import Around
from klpd.kernel.tasks import TaskState, read_task
from klpd.report import Transition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from klpd.daemon.transitions import Transitions
    from klpd.judge.rules import Policy
    from klpd.kernel.guard import Guard
    from klpd.kernel.memory import KernelMemory
    from klpd.kernel.stack import Known
    from klpd.model import Circumstances, Livepatch, Stack

_APPROVAL_NS: Final = 30 * 1_000_000_000
_WRITE_PATIENCE: Final = 5.0
"""Seconds for a moment to come in which no transition is about to end; there is one between any two tries of the kernel
to end it."""
_BETWEEN_TRIES: Final = 0.01
_MOST_LOOKED_INTO: Final = 64
"""Of more stragglers, which a transition has when it begins, nobody wants to see the stacks."""
_PATCHED: Final = 1  # KLP_PATCHED, or KLP_TRANSITION_PATCHED since Linux 6.10; KLP_UNPATCHED is 0


class Kernel(Protocol):
    """What a sequence does to a kernel and sees of it.  Every method may raise KernelError.

    `judged` is the stack that an action was judged on: where the stack, the policy or what is declared is another by
    now, nothing is done, and OvertakenError is raised.
    """

    def stack(self) -> Stack: ...

    def circumstances(self) -> Circumstances:
        """What beside the stack decides on whether a livepatch can come."""
        ...

    def surrounded(
        self, stack: Stack, coming: Iterable[Livepatch], circumstances: Circumstances | None = None
    ) -> Stack:
        """`stack` with what the kernel looks for to load any of these; `circumstances`: those of just now."""
        ...

    def load(self, data: bytes, name: str, judged: Stack, parameters: str) -> None:
        """Load these bytes, with parameters as finit_module(2) takes them."""
        ...

    def set_enabled(self, name: str, *, enabled: bool, judged: Stack) -> None:
        """Disable a livepatch, or reverse its transition: which of them the kernel does depends on the stack."""
        ...

    def force(self, name: str, judged: Stack) -> None:
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
        self._around = Around()

    def stack(self) -> Stack:
        guard = self._guard
        if guard is not None:
            epoch, generation = guard.epoch(), guard.generation()
            stack = read_stack(self._memory, self._known, generation=generation, epoch=epoch)
        else:
            stack = self._looks.numbered(lambda: read_stack(self._memory, self._known))
        return stack_with_manifests(stack, self._policy())

    def prepare(self) -> None:
        """Find out beforehand what takes long, so that whoever opens the first livepatch does not wait for it."""
        self._around.prepare()

    def circumstances(self) -> Circumstances:
        return self._around.circumstances()

    def surrounded(
        self, stack: Stack, coming: Iterable[Livepatch], circumstances: Circumstances | None = None
    ) -> Stack:
        return replace(stack, surroundings=self._around.of(coming, circumstances))

    def load(self, data: bytes, name: str, judged: Stack, parameters: str) -> None:
        with KernelLog() as log:
            try:
                self._load(data, name, judged, parameters)
            except KernelError as error:
                if error.errno == errno.EPERM and self._is_other(judged):
                    raise OvertakenError(f"cannot load {name}") from error
                what = f"cannot load {name}{modules.hint(error.errno)}"
                raise KernelError(what, error.errno, log.complaints()) from error

    def _load(self, data: bytes, name: str, judged: Stack, parameters: str) -> None:
        if self._guard is None:
            modules.load_module(data, name, parameters)
            return
        digest = hashlib.sha256(data).digest()
        expires_ns = time.monotonic_ns() + _APPROVAL_NS
        self._guard.approve(digest, GuardApproval(expires_ns, judged.generation, judged.epoch), os.getpid())
        try:
            modules.load_module(data, name, parameters)
        finally:
            self._guard.withdraw(digest)

    def set_enabled(self, name: str, *, enabled: bool, judged: Stack) -> None:
        what = f"{name} was not {'enabled' if enabled else 'disabled'}"
        self._write(lambda: sysfs.write_enabled(name, enabled=enabled), name, Attribute.ENABLED, judged, what)

    def force(self, name: str, judged: Stack) -> None:
        what = f"the transition of {name} was not forced"
        self._write(lambda: sysfs.write_force(name), name, Attribute.FORCE, judged, what)

    def _write(self, write: Callable[[], None], name: str, attribute: Attribute, judged: Stack, what: str) -> None:
        """Write to an attribute if the stack is still as it was judged.  The guard looks at the very open of it."""
        if self._guard is None:
            if self._is_other(judged):
                raise OvertakenError(what)
            write()
            return
        deadline = time.monotonic() + _WRITE_PATIENCE
        while True:
            try:
                with self._guard.writing(name, attribute, generation=judged.generation, epoch=judged.epoch):
                    write()
            except KernelError as error:
                if error.errno == errno.ESTALE:
                    raise OvertakenError(what) from error
                if error.errno != errno.EAGAIN or time.monotonic() > deadline:
                    raise
                time.sleep(_BETWEEN_TRIES)
            else:
                return

    def _is_other(self, judged: Stack) -> bool:
        if self._guard is None:
            return self.stack().generation != judged.generation
        return (self._guard.epoch(), self._guard.generation()) != (judged.epoch, judged.generation)

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
