# SPDX-License-Identifier: GPL-2.0-or-later
"""The planner: from the installed stack to a wanted one, in steps that are each judged.  It touches nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from klpd.judge.search import find_way
from klpd.judge.site import gap_finding
from klpd.judge.steps import Step, after, disabling, judged, loading, same, tidied
from klpd.judge.verdict import decide
from klpd.model import Decision, Disable, Force, Load, Remove, Reverse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from klpd.judge.rules import Policy
    from klpd.model import Action, Installed, Livepatch, Stack, Verdict


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps to a goal.  Without steps, it is reached already, or will be by the transition that runs.

    `already` names the livepatches that were to be loaded and take no step, since they are in force.
    """

    goal: str
    steps: tuple[Step, ...]
    already: tuple[str, ...] = ()

    @property
    def gap(self) -> bool:
        """Whether in between none of the livepatches that are being exchanged is in force."""
        return _opening(self.steps) is not None

    @property
    def decision(self) -> Decision:
        """The worst of the steps' verdicts."""
        decisions = {each.verdict.decision for each in self.steps}
        return next((each for each in (Decision.DENY, Decision.UNKNOWN) if each in decisions), Decision.ALLOW)

    @property
    def refusal(self) -> Verdict | None:
        """The verdict that stands in the way: the first of the worst."""
        if self.decision is Decision.ALLOW:
            return None
        return next(each.verdict for each in self.steps if each.verdict.decision is self.decision)


def plan_apply(stack: Stack, livepatch: Livepatch, policy: Policy) -> Plan:
    """Load `livepatch` and clean up what it replaced."""
    goal = f"apply {livepatch.called}"
    installed = stack.settled.find(livepatch.name)
    is_there = installed is not None and same(installed, livepatch) and installed.enabled
    # With which parameters it came, nobody knows, and it takes no others.
    if is_there and not livepatch.parameters:
        return Plan(goal, (), already=(livepatch.name,))
    return Plan(goal, judged(stack, loading(stack, livepatch), policy))


def plan_apply_all(stack: Stack, livepatches: Sequence[Livepatch], policy: Policy) -> Plan:
    """Load several livepatches in their order, each judged on what the steps before lead to, and clean up."""
    steps: list[Step] = []
    already: list[str] = []
    for livepatch in livepatches:
        plan = plan_apply(stack, livepatch, policy)
        steps += plan.steps
        already += plan.already
        stack = after(stack, [each.action for each in plan.steps])
    return Plan("apply " + ", ".join(each.called for each in livepatches), tuple(steps), tuple(already))


def plan_force(stack: Stack, name: str, policy: Policy) -> Plan:
    """Force the running transition, which is that of the livepatch `name`."""
    return Plan(f"force the transition of {name}", judged(stack, (Force(name),), policy))


def plan_disable(stack: Stack, name: str, policy: Policy) -> Plan:
    """Disable the livepatch `name` and remove its module; only the latter, where it is disabled already."""
    if stack.find(name) is None and stack.leftover(name) is not None:
        return Plan(f"disable {name}", judged(stack, (Remove(name),), policy))
    return Plan(f"disable {name}", judged(stack, disabling(stack, name), policy))


def plan_remove(stack: Stack, name: str, policy: Policy) -> Plan:
    """Remove the module of the livepatch `name`, which is no longer in force."""
    return Plan(f"remove {name}", judged(stack, (Remove(name),), policy))


def plan_revert(stack: Stack, wanted: tuple[Livepatch, ...], policy: Policy) -> Plan:
    """Go back to `wanted` (nothing: the unpatched kernel), the oldest livepatch first.

    A running transition is reversed, whatever is wanted.  Else it is the shortest way that every rule allows, of
    several one without a gap.  Where there is none, it is the one with the least in its way.
    """
    if (moving := stack.transition) is not None:
        actions = tidied(stack, Reverse(moving.name))
        return Plan(f"reverse the transition of {moving.name}", judged(stack, actions, policy))
    goal = "revert to " + (", ".join(each.name for each in wanted) or "the unpatched kernel")
    steps = find_way(stack, wanted, policy)
    if steps is None:
        steps = judged(stack, _plain_way(stack, wanted), policy)
    return Plan(goal, _with_gap(steps, policy))


def _plain_way(stack: Stack, wanted: tuple[Livepatch, ...]) -> tuple[Action, ...]:
    """What is not wanted is disabled, the newest first, and what is missing loaded, without a look at any rule."""
    kept = _common(stack.livepatches, wanted)
    actions: list[Action] = []
    for installed in reversed(stack.livepatches[kept:]):
        actions += disabling(after(stack, actions), installed.name)
    for livepatch in wanted[kept:]:
        actions += loading(after(stack, actions), livepatch)
    return tuple(actions)


def _common(installed: tuple[Installed, ...], wanted: tuple[Livepatch, ...]) -> int:
    count = 0
    for have, want in zip(installed, wanted, strict=False):
        if not same(have, want):
            break
        count += 1
    return count


def _opening(steps: tuple[Step, ...]) -> tuple[int, Load] | None:
    """Where a gap opens, and the load that begins to close it: a disable, and the first load that comes after it."""
    opening = next((rank for rank, each in enumerate(steps) if isinstance(each.action, Disable)), None)
    later = () if opening is None else steps[opening:]
    closing = next((each.action for each in later if isinstance(each.action, Load)), None)
    return None if opening is None or closing is None else (opening, closing)


def _with_gap(steps: tuple[Step, ...], policy: Policy) -> tuple[Step, ...]:
    """`steps`, with the policy's word on the gap in the verdict on the step that opens it."""
    gap = _opening(steps)
    if gap is None:
        return steps
    rank, closing = gap
    verdict = steps[rank].verdict
    findings = (*verdict.findings, gap_finding(verdict.livepatch, closing.livepatch.name, policy))
    opening = replace(steps[rank], verdict=replace(verdict, decision=decide(findings), findings=findings))
    return (*steps[:rank], opening, *steps[rank + 1 :])
