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
from klpd.errors import JobError, KernelError, OvertakenError, TimedOutError, VetoedError
from klpd.judge.rules import OnTimeout, Policy
from klpd.judge.verdict import judge, obstructs
from klpd.model import Decision, Disable, Force, Load, Remove, Reverse, target
from klpd.report import StepState

if TYPE_CHECKING:
    from klpd.judge.planner import Plan
    from klpd.judge.rules import TransitionRules
    from klpd.model import Action, Installed, Stack, Verdict
    from klpd.report import Straggler

_LOOK: Final = 1.0
"""Seconds between two looks at the tasks of a running transition: the kernel itself tries as often to end it."""
_MOST_TRIES: Final = 5
"""How often an action is judged anew because the stack became another one before the kernel could do it."""
_PATIENCE_STEP: Final = 0.05
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


class _OverError(JobError):
    """The transition that was to be reversed or forced is over, or goes elsewhere; nothing was done."""


def veto(verdict: Verdict) -> VetoedError:
    """The error for an action that the verdict does not let happen."""
    reasons = "; ".join(str(each) for each in verdict.reasons)
    return VetoedError(f"{verdict.action} of {verdict.livepatch} is refused: {reasons}", verdict)


@dataclass(frozen=True, slots=True)
class Sequence:
    """Runs plans on a kernel.

    `data_of` gives the bytes of the livepatch with a digest; `approved` is told the digest of each that was loaded and
    that every rule allows.  `meanwhile` is called again and again while a transition runs that the plan wants to end:
    it may reverse or force it.
    """

    kernel: Kernel
    policy: Callable[[], Policy]
    data_of: Callable[[str], bytes]
    approved: Callable[[str], None]
    observer: Observer
    cancel: threading.Event = field(default_factory=threading.Event)
    meanwhile: Callable[[], None] = lambda: None

    def run(self, plan: Plan) -> None:
        """Carry out every step.

        Raises VetoedError where a step is not allowed on the stack that it meets, KernelError where the kernel
        refuses it, TimedOutError where its transition was reversed for taking too long, CanceledError, and JobError
        where the stack in the end is not the one planned.
        """
        self._steps(plan, 0, self._take)

    def resume(self, plan: Plan, first: int, at_rest: frozenset[str]) -> None:
        """Carry out the steps from `first` on, which a former klpd may have begun; `at_rest` names the livepatches that
        were in force when no transition ran the last time.  Raises what `run` does.
        """
        self._steps(plan, first, lambda action: self._finish(action, at_rest))

    def end_reversal(self, action: Action) -> None:
        """End what a former klpd began: to reverse the transition of a step that took too long, or was canceled.

        Always raises JobError, with what came of it.
        """
        name = target(action)
        moving = self.kernel.stack().transition
        forwards = isinstance(action, Load)
        if moving is not None and moving.name == name and moving.enabled is forwards:
            self._reversed(moving)
        self._await_transition(name)
        there = self.kernel.stack().find(name) is not None
        if forwards and not there and self.kernel.stack().leftover(name) is not None:
            self._remove(name)
        ended = "it had come to its end already" if there is forwards else "that is done"
        raise JobError(f"klpd was restarted while it reversed the transition of {name}: {ended}")

    def _steps(self, plan: Plan, first: int, take_first: Callable[[Action], None]) -> None:
        guessed = any(isinstance(each.action, Load) and each.action.livepatch.replace is None for each in plan.steps)
        for index, step in enumerate(plan.steps):
            if index < first:
                continue
            if self.cancel.is_set():
                raise CanceledError(f"canceled before the step: {step.verdict.action} {step.verdict.livepatch}")
            self.observer.step(index, StepState.RUNNING)
            if isinstance(step.action, Remove) and (why := self._stays(step.action.name, guessed=guessed)) is not None:
                self.observer.note(f"{step.action.name} stays: {why}")
                self.observer.step(index, StepState.DONE)
                continue
            try:
                (take_first if index == first else self._take)(step.action)
            except Exception:
                self.observer.step(index, StepState.FAILED)
                raise
            self.observer.step(index, StepState.DONE)

    def _stays(self, name: str, *, guessed: bool) -> str | None:
        """Why a module that the plan has removed stays, for a reason that shows only when it is carried out."""
        stack = self.kernel.stack()
        if guessed and stack.find(name) is not None:
            return "what was loaded turned out not to replace it"
        leftover = stack.leftover(name)
        if leftover is not None and not leftover.removable:
            return "the kernel keeps its module for good, since the transition was forced"
        return None

    def _finish(self, action: Action, at_rest: frozenset[str]) -> None:
        """Take a step that may have been begun, or be over: how far it came is to be seen in the stack."""
        stack = self.kernel.stack()
        name = target(action)
        installed = stack.find(name)
        moving = installed is not None and installed.transition
        match action:
            case Load() if installed is not None:
                self._await_goal(name, enabled=True)
            case Disable() if moving or installed is None:
                self._await_goal(name, enabled=False)
            case Reverse() if installed is not None and moving and installed.enabled is (name in at_rest):
                self._await_transition(name)
            case Reverse() | Force() if not moving:
                pass
            case Remove() if stack.leftover(name) is None:
                pass
            case _:
                self._take(action)

    def _take(self, action: Action) -> None:
        stack, verdict = self._done(action)
        expected = _outcomes(stack, action)
        match action:
            case Load(livepatch):
                if verdict.decision is Decision.ALLOW:
                    self.approved(livepatch.digest)
                self._await_goal(livepatch.name, enabled=True)
            case Disable(name):
                self._await_goal(name, enabled=False)
            case Reverse(name) | Force(name):
                self._await_transition(name)
            case Remove():
                pass
        found = self._found(expected)
        if found not in expected:
            raise JobError(
                f"installed are now: {', '.join(found) or 'none'}; expected were: {', '.join(expected[0]) or 'none'}; "
                "something else changed the stack meanwhile"
            )

    def _found(self, expected: list[list[str]]) -> list[str]:
        """The names of what is in force; a transition is over a moment before the last livepatch leaves the list."""
        deadline = time.monotonic() + _REMOVAL_PATIENCE
        while True:
            stack = self.kernel.stack()
            found = [each.name for each in stack.livepatches]
            if found in expected or stack.transition is not None or time.monotonic() > deadline:
                return found
            time.sleep(_PATIENCE_STEP)

    def _done(self, action: Action, moving: Installed | None = None) -> tuple[Stack, Verdict]:
        """Have the kernel do `action`; the stack and the verdict that it was done on.

        The kernel does it on the very stack that it was judged on, or not at all: then it is judged anew.  `moving` is
        the livepatch whose transition is to be reversed or forced, as it was met; None: as it is now.

        Raises VetoedError, _OverError where that transition has ended or goes elsewhere, and KernelError.
        """
        tries = 0
        while True:
            tries += 1
            stack = self.kernel.stack()
            if isinstance(action, Reverse | Force):
                moving = _still_moving(stack, action, moving)
            policy = self.policy()
            verdict = judge(stack, action, policy)
            if obstructs(verdict, policy):
                raise veto(verdict)
            try:
                self._write(action, stack)
            except OvertakenError:
                if tries == _MOST_TRIES:
                    raise
            else:
                return stack, verdict

    def _write(self, action: Action, stack: Stack) -> None:
        match action:
            case Load(livepatch):
                self.kernel.load(self.data_of(livepatch.digest), livepatch.name, stack)
            case Disable(name):
                self.kernel.set_enabled(name, enabled=False, judged=stack)
            case Reverse(name):
                forwards = stack.transition is not None and stack.transition.enabled
                self.kernel.set_enabled(name, enabled=not forwards, judged=stack)
            case Force(name):
                self.kernel.force(name, stack)
            case Remove(name):
                self._remove(name)

    def _await_goal(self, name: str, *, enabled: bool) -> None:
        """Wait until the transition of a livepatch to where it is enabled, or is not, has come there.

        Where it takes too long, or has been canceled, it is taken back or forced.  Raises JobError where somebody else
        has reversed it.
        """
        begun = time.monotonic()
        may_end_it = True
        while True:
            self.meanwhile()
            stack = self.kernel.stack()
            moving = stack.transition
            if moving is None or moving.name != name or moving.enabled is not enabled:
                break
            rules = self.policy().transition_of(moving)
            stragglers = self._show(stack)
            if may_end_it and self.cancel.is_set():
                may_end_it = False
                if self._reversed(moving):
                    raise CanceledError(f"canceled: the transition of {name} was reversed")
            left = rules.timeout - (time.monotonic() - begun)
            if may_end_it and left <= 0 and rules.on_timeout is not OnTimeout.WAIT:
                may_end_it = False
                self._overdue(moving, rules, stragglers)
            self.kernel.wait(stack, min(_LOOK, left) if may_end_it and left > 0 else _LOOK)
        self._await_transition(name)
        installed = self.kernel.stack().find(name)
        if (installed is not None and installed.enabled) is not enabled:
            raise JobError(f"the transition of {name} was reversed by somebody else meanwhile")

    def _await_transition(self, name: str) -> None:
        """Wait until the transition of a livepatch is over, wherever it leads to."""
        while (moving := (stack := self.kernel.stack()).transition) is not None and moving.name == name:
            self._show(stack)
            self.kernel.wait(stack, _LOOK)

    def _overdue(self, moving: Installed, rules: TransitionRules, stragglers: tuple[Straggler, ...]) -> None:
        """Do what the policy says of a transition that takes too long."""
        late = f"the transition of {moving.name} took longer than {rules.timeout:g} s and was"
        waited = f"it waited for: {_named(stragglers)}"
        if rules.on_timeout is OnTimeout.REVERSE:
            if self._reversed(moving):
                raise TimedOutError(f"{late} reversed; {waited}")
        elif self._forced(moving):
            self.observer.note(f"{late} forced; {waited}")

    def _show(self, stack: Stack) -> tuple[Straggler, ...]:
        transition = self.kernel.transition(stack)
        if transition is None:
            return ()
        self.observer.progress(transition.progress, transition.stragglers)
        return transition.stragglers

    def _reversed(self, moving: Installed) -> bool:
        """Reverse the transition, if that is allowed; else tell the observer why it is not."""
        try:
            self._done(Reverse(moving.name), moving)
        except (VetoedError, _OverError) as error:
            self.observer.note(str(error))
            return False
        self.observer.reversing()
        self._await_transition(moving.name)
        if moving.enabled:
            self._remove(moving.name)
        return True

    def _forced(self, moving: Installed) -> bool:
        """Force the transition, if that is allowed; else tell the observer why it is not."""
        try:
            self._done(Force(moving.name), moving)
        except (VetoedError, _OverError) as error:
            self.observer.note(str(error))
            return False
        return True

    def _remove(self, name: str) -> None:
        deadline = time.monotonic() + _REMOVAL_PATIENCE
        while True:
            try:
                self.kernel.remove(name)
            except KernelError as error:
                if error.errno != errno.EAGAIN or time.monotonic() > deadline:
                    raise
                time.sleep(_PATIENCE_STEP)
            else:
                return


def _still_moving(stack: Stack, action: Reverse | Force, met: Installed | None) -> Installed:
    """The livepatch in transition, if it is the one that `action` is about, and on the way on which it was `met`.

    Raises _OverError: what ends a transition means another thing once that has ended, or has been turned round.
    """
    moving = stack.transition
    doing = "reversed" if isinstance(action, Reverse) else "forced"
    if moving is None or moving.name != action.name:
        raise _OverError(f"the transition of {action.name} had come to its end before it could be {doing}")
    if met is not None and moving.enabled is not met.enabled:
        raise _OverError(f"the transition of {action.name} was reversed by somebody else before it could be {doing}")
    return moving


def _outcomes(stack: Stack, action: Action) -> list[list[str]]:
    """The names of what may be in force after `action`: of a livepatch that may replace or not, both outcomes."""
    actions = [action]
    if isinstance(action, Load) and action.livepatch.replace is None:
        actions.append(Load(replace(action.livepatch, replace=False)))
    return [[livepatch.name for livepatch in stack.after(each).livepatches] for each in actions]


def _named(stragglers: tuple[Straggler, ...]) -> str:
    named = [
        f"{each.command}[{each.tid}]" + (f" in {each.function}" if each.function else "") for each in stragglers[:5]
    ]
    if len(stragglers) > len(named):
        named.append(f"{len(stragglers) - len(named)} more")
    return ", ".join(named) or "nobody that could be named"
