# SPDX-License-Identifier: GPL-2.0-or-later
"""Following a transition to its end, whichever way it goes: what is done when it takes too long, or is canceled.

A job turns a transition round once.  What it has turned round, or what was to be reversed from the beginning, is not
turned round again because that takes too long as well: the two ways would take turns for ever.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from klpd.daemon.judged import JudgedKernel, OverError
from klpd.errors import JobError, KernelError, TimedOutError, VetoedError
from klpd.judge.rules import OnTimeout, Policy
from klpd.model import Force, Reverse
from klpd.report import Prospect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.judge.rules import TransitionRules
    from klpd.model import Installed, Stack
    from klpd.report import StepState, Straggler

_LOOK: Final = 1.0
"""Seconds between two looks at the tasks of a running transition: the kernel itself tries as often to end it."""


class CanceledError(JobError):
    """The sequence was ended early, as asked."""

    dbus_name = "org.klpd1.Error.Canceled"


@dataclass(frozen=True, slots=True)
class Course:
    """Where a transition goes that a job waits for.

    The job wants it to end with the livepatch enabled, or not: `goal`.  It goes to `enabled`, since then
    (time.monotonic(), which all klpds of one boot share).  `ending` is why the job has turned it round itself.
    `reversal`: it was to be reversed from the beginning.
    """

    goal: bool
    enabled: bool
    since: float
    ending: JobError | None = None
    reversal: bool = False

    @property
    def reversing(self) -> bool:
        """The job takes it back."""
        return self.ending is not None and self.enabled is not self.goal

    @property
    def may_be_turned(self) -> bool:
        return self.ending is None and self.enabled is self.goal

    def then(self, rules: TransitionRules) -> OnTimeout:
        """What is done when it takes too long."""
        if rules.on_timeout is OnTimeout.REVERSE and (self.reversal or not self.may_be_turned):
            return OnTimeout.WAIT
        return rules.on_timeout


class Observer(Protocol):
    """Is told how a sequence gets on."""

    def step(self, index: int, state: StepState) -> None: ...

    def progress(self, part: float, stragglers: tuple[Straggler, ...]) -> None: ...

    def course(self, course: Course) -> None:
        """Where the transition goes; told before it is turned round, too, so that a new klpd knows what was meant."""
        ...

    def prospect(self, prospect: Prospect | None) -> None:
        """What becomes of the transition if its stragglers stay; None: none is waited for."""
        ...

    def note(self, message: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What an action was refused on: it is not tried again before one of them is another."""

    policy: Policy
    generation: int
    epoch: int
    why: str

    def stands(self, policy: Policy, stack: Stack) -> bool:
        return self.policy is policy and (self.generation, self.epoch) == (stack.generation, stack.epoch)


@dataclass(frozen=True, slots=True)
class Follower:
    """Follows transitions.  `meanwhile` is called again and again: it may force the transition, and where it has turned
    it round, so that it is another's to follow, it returns True.
    """

    judged: JudgedKernel
    observer: Observer
    cancel: threading.Event
    meanwhile: Callable[[], bool]

    def follow(self, name: str, course: Course, *, forced: bool = False) -> None:
        """Wait until the transition of the livepatch `name` has come to its goal; one that was `forced` is let alone.

        Where it takes too long or is canceled, it is taken back or forced, as soon as the rules let it.  Raises what
        the job ends with that has taken it back, and JobError where somebody else has.
        """
        try:
            course = self._followed(name, course, forced=forced)
        finally:
            self.observer.prospect(None)
        installed = self.judged.kernel.stack().find(name)
        there = installed is not None and installed.enabled
        if there is not course.goal:
            if course.ending is not None and not there:
                self._tidy(name)
            raise course.ending or _turned_by_another(name, course)
        if course.ending is not None:
            raise _turned_by_another(name, course)

    def _followed(self, name: str, course: Course, *, forced: bool) -> Course:
        """The course in the end."""
        refusals: dict[type[Reverse | Force], _Refusal] = {}
        self.observer.course(course)
        while True:
            taken = self.meanwhile()
            stack = self.judged.kernel.stack()
            moving = stack.transition
            if moving is None or moving.name != name:
                return course
            if taken:
                raise _turned_by_another(name, course)
            if moving.enabled is not course.enabled:
                course = replace(course, enabled=moving.enabled, since=time.monotonic())
                self.observer.course(course)
            policy = self.judged.policy()
            rules = policy.transition_of(moving)
            left = rules.timeout - (time.monotonic() - course.since)
            stragglers = self._show(stack)
            self.observer.prospect(_prospect(name, course, rules, left, refusals if not forced else None))
            for action in () if forced else self._due(name, course, rules, overdue=left <= 0):
                refusal = refusals.get(type(action))
                if refusal is not None and refusal.stands(policy, stack):
                    continue
                try:
                    course = self._act(action, moving, course, rules, stragglers)
                except (VetoedError, OverError, KernelError) as error:
                    self.observer.course(course)
                    self.observer.note(str(error))
                    refusals[type(action)] = _Refusal(policy, stack.generation, stack.epoch, str(error))
                    continue
                forced = isinstance(action, Force)
                break
            else:
                self.judged.kernel.wait(stack, min(_LOOK, left) if left > 0 else _LOOK)

    def _due(self, name: str, course: Course, rules: TransitionRules, *, overdue: bool) -> Iterator[Reverse | Force]:
        """What is to be done now, the first that is allowed of it."""
        if course.may_be_turned and self.cancel.is_set():
            yield Reverse(name)
        then = course.then(rules)
        if overdue and then is OnTimeout.REVERSE:
            yield Reverse(name)
        elif overdue and then is OnTimeout.FORCE:
            yield Force(name)

    def _act(
        self,
        action: Reverse | Force,
        moving: Installed,
        course: Course,
        rules: TransitionRules,
        stragglers: tuple[Straggler, ...],
    ) -> Course:
        """Do it, and say so; the course then."""
        late = f"the transition of {moving.name} took longer than {rules.timeout:g} s and was"
        waited = f"it waited for: {_named(stragglers)}"
        if isinstance(action, Force):
            self.judged.do(action, moving)
            self.observer.note(f"{late} forced; {waited}")
            return course
        ending: JobError = TimedOutError(f"{late} reversed; {waited}")
        if self.cancel.is_set():
            ending = CanceledError(f"canceled: the transition of {moving.name} was reversed")
        turned = replace(course, enabled=not course.enabled, since=time.monotonic(), ending=ending)
        self.judged.do(action, moving, about_to=lambda _stack: self.observer.course(turned))
        return turned

    def _show(self, stack: Stack) -> tuple[Straggler, ...]:
        transition = self.judged.kernel.transition(stack)
        if transition is None:
            return ()
        self.observer.progress(transition.progress, transition.stragglers)
        return transition.stragglers

    def _tidy(self, name: str) -> None:
        """Remove the module of what was taken back; that it stays is no reason to hide why it was."""
        try:
            self.judged.remove(name)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                self.observer.note(f"the module {name} stays: {error}")


def _prospect(
    name: str,
    course: Course,
    rules: TransitionRules,
    left: float,
    refusals: dict[type[Reverse | Force], _Refusal] | None,
) -> Prospect:
    """`refusals` is None where the transition was forced, and will end by itself."""
    then = OnTimeout.WAIT if refusals is None else course.then(rules)
    refusal = None if then is OnTimeout.WAIT else (refusals or {}).get(Force if then is OnTimeout.FORCE else Reverse)
    return Prospect(
        livepatch=name,
        then=then.value,
        due=None if then is OnTimeout.WAIT else time.time() + left,
        turned=course.reversal or course.ending is not None or course.enabled is not course.goal,
        refused=None if refusal is None else refusal.why,
    )


def _turned_by_another(name: str, course: Course) -> JobError:
    if course.ending is None:
        return JobError(f"the transition of {name} was reversed by somebody else meanwhile")
    return type(course.ending)(f"{course.ending}; then somebody else reversed it once more")


def _named(stragglers: tuple[Straggler, ...]) -> str:
    named = [
        f"{each.command}[{each.tid}]" + (f" in {each.function}" if each.function else "") for each in stragglers[:5]
    ]
    if len(stragglers) > len(named):
        named.append(f"{len(stragglers) - len(named)} more")
    return ", ".join(named) or "nobody that could be named"
