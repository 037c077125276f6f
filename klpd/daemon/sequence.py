# SPDX-License-Identifier: GPL-2.0-or-later
"""Carrying out a plan: each step judged once more just before it, watched to its end, reversed when it has to be."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

from klpd.daemon.running import Kernel
from klpd.errors import JobError, KernelError, TimedOutError, VetoedError
from klpd.judge.rules import OnTimeout, Policy
from klpd.judge.verdict import judge, obstructs
from klpd.model import Decision, Disable, Load, Remove, Reverse
from klpd.report import StepState

if TYPE_CHECKING:
    from klpd.judge.planner import Plan
    from klpd.model import Action, Installed, Stack, Verdict
    from klpd.report import Straggler

_LOOK: Final = 0.25
"""Seconds between two looks at a running transition; the kernel itself tries once a second."""
_REMOVAL_PATIENCE: Final = 5.0
"""Seconds for the last reference to a disabled livepatch's module to go (klp_free_patch_finish runs on a worker)."""


class Observer(Protocol):
    """Is told how a sequence gets on."""

    def step(self, index: int, state: StepState) -> None: ...

    def progress(self, part: float, stragglers: tuple[Straggler, ...]) -> None: ...

    def reversing(self) -> None: ...

    def note(self, message: str) -> None: ...


class CanceledError(JobError):
    """The sequence was ended early, as asked."""

    dbus_name = "org.klpd1.Error.Canceled"


def veto(verdict: Verdict) -> VetoedError:
    """The error for an action that the verdict does not let happen."""
    reasons = "; ".join(str(each) for each in verdict.reasons)
    return VetoedError(f"{verdict.action} of {verdict.livepatch} is refused: {reasons}", verdict)


@dataclass(frozen=True, slots=True)
class Sequence:
    """Runs plans on a kernel.

    `data_of` gives the bytes of the livepatch with a digest; `approved` is told the digest of each that was loaded and
    that every rule allows.
    """

    kernel: Kernel
    policy: Callable[[], Policy]
    data_of: Callable[[str], bytes]
    approved: Callable[[str], None]
    observer: Observer
    cancel: threading.Event = field(default_factory=threading.Event)

    def run(self, plan: Plan) -> None:
        """Carry out every step.

        Raises VetoedError where a step is not allowed on the stack that it meets, KernelError where the kernel
        refuses it, TimedOutError where its transition was reversed for taking too long, CanceledError, and JobError
        where the stack in the end is not the one planned.
        """
        guessed = any(isinstance(each.action, Load) and each.action.livepatch.replace is None for each in plan.steps)
        for index, step in enumerate(plan.steps):
            if self.cancel.is_set():
                raise CanceledError(f"canceled before the step: {step.verdict.action} {step.verdict.livepatch}")
            self.observer.step(index, StepState.RUNNING)
            if guessed and isinstance(step.action, Remove) and self._in_force(step.action.name):
                self.observer.note(f"{step.action.name} stays: what was loaded turned out not to replace it")
                self.observer.step(index, StepState.DONE)
                continue
            try:
                self._take(step.action)
            except Exception:
                self.observer.step(index, StepState.FAILED)
                raise
            self.observer.step(index, StepState.DONE)

    def _take(self, action: Action) -> None:
        stack, verdict = self._judged(action)
        expected = _outcomes(stack, action)
        match action:
            case Load(livepatch):
                self.kernel.load(self.data_of(livepatch.digest), livepatch.name, stack.generation)
                if verdict.decision is Decision.ALLOW:
                    self.approved(livepatch.digest)
                self._await_transition(livepatch.name)
            case Disable(name):
                self.kernel.set_enabled(name, enabled=False)
                self._await_transition(name)
            case Reverse(name):
                moving = stack.transition
                self.kernel.set_enabled(name, enabled=moving is None or not moving.enabled)
                self._await_transition(name, reversible=False)
            case Remove(name):
                self._remove(name)
        found = [each.name for each in self.kernel.stack().livepatches]
        if found not in expected:
            raise JobError(
                f"installed are now: {', '.join(found) or 'none'}; expected were: {', '.join(expected[0]) or 'none'}; "
                "something else changed the stack meanwhile"
            )

    def _in_force(self, name: str) -> bool:
        return self.kernel.stack().find(name) is not None

    def _judged(self, action: Action) -> tuple[Stack, Verdict]:
        stack = self.kernel.stack()
        policy = self.policy()
        verdict = judge(stack, action, policy)
        if obstructs(verdict, policy):
            raise veto(verdict)
        return stack, verdict

    def _await_transition(self, name: str, *, reversible: bool = True) -> None:
        policy = self.policy()
        deadline = time.monotonic() + policy.transition_timeout
        while (moving := self._moving(name)) is not None:
            stragglers = self._show(moving)
            if reversible and self.cancel.is_set():
                reversible = self._reversed(moving)
                if reversible:
                    raise CanceledError(f"canceled: the transition of {name} was reversed")
            elif reversible and policy.on_timeout is OnTimeout.REVERSE and time.monotonic() > deadline:
                reversible = self._reversed(moving)
                if reversible:
                    raise TimedOutError(
                        f"the transition of {name} took longer than {policy.transition_timeout:g} s and was "
                        f"reversed; it waited for: {_named(stragglers)}"
                    )
            time.sleep(_LOOK)

    def _moving(self, name: str) -> Installed | None:
        moving = self.kernel.stack().transition
        return moving if moving is not None and moving.name == name else None

    def _show(self, moving: Installed) -> tuple[Straggler, ...]:
        tasks = self.kernel.tasks()
        goal = 1 if moving.enabled else 0
        stragglers = tuple(task for task, state in tasks if state != goal)
        self.observer.progress(1 - len(stragglers) / len(tasks) if tasks else 0.0, stragglers)
        return stragglers

    def _reversed(self, moving: Installed) -> bool:
        """Reverse the transition, if that is allowed; else tell the observer why it is not."""
        try:
            self._judged(Reverse(moving.name))
        except VetoedError as error:
            self.observer.note(str(error))
            return False
        self.observer.reversing()
        self.kernel.set_enabled(moving.name, enabled=not moving.enabled)
        self._await_transition(moving.name, reversible=False)
        if moving.enabled:
            self._remove(moving.name)
        return True

    def _remove(self, name: str) -> None:
        deadline = time.monotonic() + _REMOVAL_PATIENCE
        while True:
            try:
                self.kernel.remove(name)
            except KernelError as error:
                if error.errno != errno.EAGAIN or time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK)
            else:
                return


def _outcomes(stack: Stack, action: Action) -> list[list[str]]:
    """The names of what may be in force after `action`: of a livepatch that may replace or not, both outcomes."""
    actions = [action]
    if isinstance(action, Load) and action.livepatch.replace is None:
        actions.append(Load(replace(action.livepatch, replace=False)))
    return [[livepatch.name for livepatch in stack.after(each).livepatches] for each in actions]


def _named(stragglers: tuple[Straggler, ...]) -> str:
    named = [f"{each.command}[{each.tid}]" for each in stragglers[:5]]
    if len(stragglers) > len(named):
        named.append(f"{len(stragglers) - len(named)} more")
    return ", ".join(named) or "nobody that could be named"
