# SPDX-License-Identifier: GPL-2.0-or-later
"""The planner: from the installed stack to a wanted one, in steps that are each judged.  It touches nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from klpd.judge.verdict import judge
from klpd.model import Action, Decision, Disable, Load, Remove, Reverse, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from klpd.judge.rules import Policy
    from klpd.model import Installed, Livepatch, Stack


@dataclass(frozen=True, slots=True)
class Step:
    """One action of a plan, with the verdict on the stack that the steps before it lead to."""

    action: Action
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps to a goal.  Without steps, it is reached already, or will be by the transition that runs.

    `gap` tells that in between none of the livepatches that are being exchanged is in force.
    """

    goal: str
    steps: tuple[Step, ...]
    gap: bool = False

    @property
    def decision(self) -> Decision:
        """The worst of the steps' verdicts."""
        decisions = {each.verdict.decision for each in self.steps}
        return next((each for each in (Decision.DENY, Decision.UNKNOWN) if each in decisions), Decision.ALLOW)

    @property
    def refusal(self) -> Verdict | None:
        """The first verdict that stands in the way."""
        return next((each.verdict for each in self.steps if each.verdict.decision is not Decision.ALLOW), None)


def plan_apply(stack: Stack, livepatch: Livepatch, policy: Policy) -> Plan:
    """Load `livepatch` and clean up what it replaced."""
    goal = f"apply {livepatch.name}"
    installed = stack.settled.find(livepatch.name)
    if installed is not None and same(installed, livepatch) and installed.enabled:
        return Plan(goal, ())
    return Plan(goal, _judged(stack, _loads(stack, (livepatch,)), policy))


def plan_disable(stack: Stack, name: str, policy: Policy) -> Plan:
    """Disable the livepatch `name` and remove its module; only the latter, where it is disabled already."""
    if stack.find(name) is None and stack.leftover(name) is not None:
        return Plan(f"disable {name}", _judged(stack, (Remove(name),), policy))
    return Plan(f"disable {name}", _judged(stack, _tidied(stack, Disable(name)), policy))


def plan_revert(stack: Stack, wanted: tuple[Livepatch, ...], policy: Policy) -> Plan:
    """Go back to `wanted` (nothing: the unpatched kernel), the oldest livepatch first.

    A running transition is reversed, whatever is wanted: that is the only way back without a gap.  Else the wanted
    livepatches are loaded over the present ones where every rule allows that, and otherwise by way of the unpatched
    kernel: what is not wanted is disabled, the newest first, removed, and the rest loaded anew.
    """
    if (moving := stack.transition) is not None:
        actions = _tidied(stack, Reverse(moving.name))
        return Plan(f"reverse the transition of {moving.name}", _judged(stack, actions, policy))
    goal = "revert to " + (", ".join(each.name for each in wanted) or "the unpatched kernel")
    kept = _common(stack.livepatches, wanted)
    surplus = stack.livepatches[kept:]
    missing = wanted[kept:]
    if missing and surplus:
        over = Plan(goal, _judged(stack, _loads(stack, missing), policy))
        if over.decision is Decision.ALLOW and _reaches(stack, over, wanted):
            return over
    disables = tuple(_disables(stack, surplus))
    loads = _loads(_after(stack, disables), missing)
    return Plan(goal, _judged(stack, (*disables, *loads), policy), gap=bool(surplus) and bool(missing))


def same(installed: Installed, livepatch: Livepatch) -> bool:
    """Whether an installed livepatch came from this very file, as far as can be told."""
    if installed.name != livepatch.name:
        return False
    if installed.digest is not None:
        return installed.digest == livepatch.digest
    return installed.build_id is not None and installed.build_id == livepatch.build_id


def _common(installed: tuple[Installed, ...], wanted: tuple[Livepatch, ...]) -> int:
    count = 0
    for have, want in zip(installed, wanted, strict=False):
        if not same(have, want):
            break
        count += 1
    return count


def _reaches(stack: Stack, plan: Plan, wanted: tuple[Livepatch, ...]) -> bool:
    end = _after(stack, (step.action for step in plan.steps))
    return [each.name for each in end.livepatches] == [each.name for each in wanted]


def _after(stack: Stack, actions: Iterable[Action]) -> Stack:
    for action in actions:
        stack = stack.after(action)
    return stack


def _tidied(stack: Stack, action: Action) -> tuple[Action, ...]:
    """`action`, and the removal of the modules that it leaves over, but for those that the kernel keeps for good."""
    before = {each.name for each in stack.settled.leftovers}
    left = (each for each in stack.after(action).leftovers if each.removable and each.name not in before)
    return (action, *(Remove(each.name) for each in left))


def _disables(stack: Stack, livepatches: tuple[Installed, ...]) -> Iterator[Action]:
    """Disable each livepatch, the newest first, and remove its module."""
    for livepatch in reversed(livepatches):
        actions = _tidied(stack, Disable(livepatch.name))
        yield from actions
        stack = _after(stack, actions)


def _loads(stack: Stack, livepatches: Iterable[Livepatch]) -> Iterator[Action]:
    """Load each livepatch, with the removals that it needs before (its name is taken) and makes due after."""
    for livepatch in livepatches:
        if (leftover := stack.leftover(livepatch.name)) is not None and leftover.removable:
            yield Remove(livepatch.name)
        actions = _tidied(stack, Load(livepatch))
        yield from actions
        stack = _after(stack, actions)


def _judged(stack: Stack, actions: Iterable[Action], policy: Policy) -> tuple[Step, ...]:
    steps = []
    for action in actions:
        steps.append(Step(action, judge(stack, action, policy)))
        stack = stack.after(action)
    return tuple(steps)
