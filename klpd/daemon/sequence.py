# SPDX-License-Identifier: GPL-2.0-or-later
"""Carrying out a plan: each step judged once more just before it, and watched to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from klpd.daemon.course import CanceledError, Course, Follower, Observer
from klpd.daemon.judged import PATIENCE_STEP, REMOVAL_PATIENCE, JudgedKernel
from klpd.errors import JobError
from klpd.model import Decision, Disable, Force, Load, Remove, Reverse, target
from klpd.report import StepState

if TYPE_CHECKING:
    from klpd.judge.planner import Plan
    from klpd.model import Action, Stack


@dataclass(frozen=True, slots=True)
class Begun:
    """A step that the kernel was asked for: the course of the transition that it began, and what it may lead to."""

    course: Course | None
    expected: list[list[str]]


@dataclass(frozen=True, slots=True)
class Sequence:
    """Runs plans on a kernel.

    `approved` is told the digest of each livepatch that was loaded and that every rule allows.  `meanwhile` is called
    again and again while a transition runs, as `klpd.daemon.course.Follower` has it.
    """

    judged: JudgedKernel
    approved: Callable[[str], None]
    observer: Observer
    cancel: threading.Event = field(default_factory=threading.Event)
    meanwhile: Callable[[], bool] = lambda: False

    def run(self, plan: Plan) -> None:
        """Carry out every step.

        Raises VetoedError where a step is not allowed on the stack that it meets, KernelError where the kernel
        refuses it, TimedOutError where its transition was reversed for taking too long, CanceledError, and JobError
        where the stack in the end is not the one planned.
        """
        if plan.steps:
            self._check_canceled(plan.steps[0].action)
        self._steps(plan, 0, self._take)

    def begin(self, plan: Plan) -> Begun:
        """Have the kernel begin the first step, and wait for nothing: `go_on` does that.  Raises what `run` does."""
        self.observer.step(0, StepState.RUNNING)
        try:
            return self._begin(plan.steps[0].action)
        except Exception:
            self.observer.step(0, StepState.FAILED)
            raise

    def go_on(self, plan: Plan, begun: Begun) -> None:
        """Carry out the rest of a plan that was begun."""
        self._steps(plan, 0, lambda action: self._end(action, begun))

    def resume(self, plan: Plan, first: int, course: Course | None = None) -> None:
        """Carry out the steps from `first` on, which a former klpd may have begun; `course` is what it meant the
        transition to do.  Raises what `run` does.
        """
        self._steps(plan, first, lambda action: self._finish(action, course))

    def _steps(self, plan: Plan, first: int, take_first: Callable[[Action], None]) -> None:
        guessed = any(isinstance(each.action, Load) and each.action.livepatch.replace is None for each in plan.steps)
        for index, step in enumerate(plan.steps):
            if index < first:
                continue
            if index > first:
                self._check_canceled(step.action)
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

    def _check_canceled(self, action: Action) -> None:
        if self.cancel.is_set():
            raise CanceledError(f"canceled before the step: {type(action).__name__.lower()} {target(action)}")

    def _stays(self, name: str, *, guessed: bool) -> str | None:
        """Why a module that the plan has removed stays, for a reason that shows only when it is carried out."""
        stack = self.judged.kernel.stack()
        if guessed and stack.find(name) is not None:
            return "what was loaded turned out not to replace it"
        leftover = stack.leftover(name)
        if leftover is not None and not leftover.removable:
            return "the kernel keeps its module for good, since the transition was forced"
        return None

    def _finish(self, action: Action, course: Course | None) -> None:
        """Take a step that may have been begun, or be over: how far it came is to be seen in the stack."""
        stack = self.judged.kernel.stack()
        name = target(action)
        installed = stack.find(name)
        moving = installed is not None and installed.transition
        there = installed is not None and installed.enabled
        if isinstance(action, Remove):
            over, begun = stack.leftover(name) is None, False
        elif isinstance(action, Force) or (isinstance(action, Reverse) and course is None):
            over, begun = not moving, False
        else:
            course = course or Course(isinstance(action, Load), there, time.monotonic())
            turned = course.ending is not None
            if moving and turned and there is course.goal:
                course = replace(course, enabled=there, ending=None)  # it was about to be turned round: that comes
            over = not moving and there is course.goal
            begun = moving or (turned and there is not course.goal)
            if isinstance(action, Reverse):
                begun = begun and (turned or there is course.goal)
        if begun and course is not None:
            self._follower.follow(name, course)
        elif not over:
            self._check_canceled(action)
            self._take(action)

    def _take(self, action: Action) -> None:
        self._end(action, self._begin(action))

    def _begin(self, action: Action) -> Begun:
        stack, verdict = self.judged.do(action, about_to=lambda stack: self._tell_course(_course(stack, action)))
        if isinstance(action, Load) and verdict.decision is Decision.ALLOW:
            self.approved(action.livepatch.digest)
        return Begun(_course(stack, action), _outcomes(stack, action))

    def _tell_course(self, course: Course | None) -> None:
        if course is not None:
            self.observer.course(course)

    def _end(self, action: Action, begun: Begun) -> None:
        if begun.course is not None:
            self._follower.follow(target(action), begun.course, forced=isinstance(action, Force))
        found = self._found(begun.expected)
        if found not in begun.expected:
            raise JobError(
                f"installed are now: {', '.join(found) or 'none'}; expected were: "
                f"{', '.join(begun.expected[0]) or 'none'}; something else changed the stack meanwhile"
            )

    def _found(self, expected: list[list[str]]) -> list[str]:
        """The names of what is in force; a transition is over a moment before the last livepatch leaves the list."""
        deadline = time.monotonic() + REMOVAL_PATIENCE
        while True:
            stack = self.judged.kernel.stack()
            found = [each.name for each in stack.livepatches]
            if found in expected or stack.transition is not None or time.monotonic() > deadline:
                return found
            time.sleep(PATIENCE_STEP)

    @property
    def _follower(self) -> Follower:
        return Follower(self.judged, self.observer, self.cancel, self.meanwhile)


def _course(stack: Stack, action: Action) -> Course | None:
    """The course of the transition that `action` begins on `stack`, or that it is about."""
    now = time.monotonic()
    moving = stack.transition
    forwards = moving is not None and moving.enabled
    match action:
        case Load():
            return Course(goal=True, enabled=True, since=now)
        case Disable():
            return Course(goal=False, enabled=False, since=now)
        case Reverse():
            return Course(not forwards, not forwards, now, reversal=True)
        case Force():
            return Course(forwards, forwards, now)
        case Remove():
            return None


def _outcomes(stack: Stack, action: Action) -> list[list[str]]:
    """The names of what may be in force after `action`: of a livepatch that may replace or not, both outcomes."""
    actions = [action]
    if isinstance(action, Load) and action.livepatch.replace is None:
        actions.append(Load(replace(action.livepatch, replace=False)))
    return [[livepatch.name for livepatch in stack.after(each).livepatches] for each in actions]
