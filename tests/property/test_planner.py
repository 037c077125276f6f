# SPDX-License-Identifier: GPL-2.0-or-later
"""Laws of the planner."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from klpd.judge.planner import plan_apply, plan_apply_all, plan_disable, plan_force, plan_revert
from klpd.judge.steps import same
from klpd.judge.verdict import decide, judge
from klpd.model import Decision, Disable, Load, Reverse, RuleKind
from tests.builders import names as names_of
from tests.builders import policy
from tests.property.kernel_machine import perform
from tests.property.shortest_way import is_there, shortest_way
from tests.property.strategies import (
    exchanges,
    kernels,
    known_livepatches,
    livepatches,
    names,
    policies,
    resting_livepatches,
    resting_stacks,
    stacks,
    state_arrays,
)

if TYPE_CHECKING:
    from klpd.judge.planner import Plan
    from klpd.judge.rules import Policy
    from klpd.model import Action, Finding, Livepatch, Stack
    from tests.property.kernel_machine import KernelMachine

ALLOW_ALL = policy()
GAP = "unpatched-gap"


def _end(stack: Stack, plan: Plan) -> Stack:
    for step in plan.steps:
        stack = stack.after(step.action)
    return stack


@st.composite
def plans(draw: st.DrawFn) -> tuple[Stack, Policy, Plan]:
    """Any plan, with what it was made for."""
    stack, site = draw(stacks(readable=st.booleans())), draw(policies)
    plan = draw(
        st.one_of(
            st.builds(plan_apply, st.just(stack), livepatches(), st.just(site)),
            st.builds(plan_apply_all, st.just(stack), st.lists(livepatches(), max_size=3), st.just(site)),
            st.builds(plan_force, st.just(stack), names, st.just(site)),
            st.builds(plan_disable, st.just(stack), names, st.just(site)),
            st.builds(plan_revert, st.just(stack), resting_livepatches(), st.just(site)),
        )
    )
    return stack, site, plan


@given(plans())
def test_each_step_bears_the_verdict_on_the_stack_that_the_steps_before_lead_to(
    made: tuple[Stack, Policy, Plan],
) -> None:
    stack, site, plan = made
    for step in plan.steps:
        judged = judge(stack, step.action, site)
        assert (step.verdict.changes, _without_gap(step.verdict.findings)) == (judged.changes, judged.findings)
        assert step.verdict.decision is decide(step.verdict.findings)
        stack = stack.after(step.action)


def _without_gap(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    return tuple(each for each in findings if each.code != GAP)


@given(plans())
def test_a_plan_is_allowed_only_if_the_judge_allows_each_step(made: tuple[Stack, Policy, Plan]) -> None:
    _stack, _site, plan = made
    decisions = [step.verdict.decision for step in plan.steps]
    assert (plan.decision is Decision.ALLOW) is all(each is Decision.ALLOW for each in decisions)
    assert (plan.decision is Decision.DENY) is (Decision.DENY in decisions)
    assert (plan.refusal is None) is (plan.decision is Decision.ALLOW)
    if plan.refusal is not None:
        assert plan.refusal.decision is plan.decision
        assert plan.refusal.reasons


@given(plans())
def test_an_allowed_plan_leaves_no_module_over_that_could_go(made: tuple[Stack, Policy, Plan]) -> None:
    stack, _site, plan = made
    if plan.decision is Decision.ALLOW:
        end = _end(stack, plan)
        gone = (end.leftover(each.name) for each in stack.settled.livepatches)
        assert not any(leftover.removable for leftover in gone if leftover is not None)


@given(stacks(), names, policies)
def test_a_module_that_stays_for_good_is_no_reason_not_to_disable_its_livepatch(
    stack: Stack, name: str, site: Policy
) -> None:
    if stack.find(name) is not None:
        assert plan_disable(stack, name, site).decision is judge(stack, Disable(name), site).decision


@given(stacks(), livepatches(), policies)
def test_an_allowed_apply_puts_the_livepatch_in_force(stack: Stack, livepatch: Livepatch, site: Policy) -> None:
    plan = plan_apply(stack, livepatch, site)
    if plan.decision is Decision.ALLOW:
        there = _end(stack, plan).settled.find(livepatch.name)
        assert there is not None
        assert same(there, livepatch)


@given(stacks(), names, policies)
def test_an_allowed_disable_takes_the_livepatch_out_and_leaves_the_others(
    stack: Stack, name: str, site: Policy
) -> None:
    plan = plan_disable(stack, name, site)
    if plan.decision is Decision.ALLOW:
        assert names_of(_end(stack, plan)) == [each for each in names_of(stack) if each != name]
        assert stack.find(name) is not None or stack.leftover(name) is not None


@given(exchanges(), policies)
@settings(max_examples=150)
def test_an_allowed_revert_leads_to_the_wanted_stack(
    exchange: tuple[Stack, tuple[Livepatch, ...]], site: Policy
) -> None:
    stack, wanted = exchange
    plan = plan_revert(stack, wanted, site)
    if plan.decision is Decision.ALLOW:
        assert is_there(_end(stack, plan), wanted)


@given(kernels(), st.data())
@settings(max_examples=150)
def test_the_kernel_takes_every_step_of_an_allowed_plan(kernel: KernelMachine, data: st.DataObject) -> None:
    stack = kernel.look()
    plan = data.draw(
        st.one_of(
            st.builds(plan_apply, st.just(stack), known_livepatches, st.just(ALLOW_ALL)),
            st.builds(plan_disable, st.just(stack), names, st.just(ALLOW_ALL)),
            st.builds(plan_revert, st.just(stack), resting_livepatches(states=state_arrays), st.just(ALLOW_ALL)),
        )
    )
    if plan.decision is Decision.ALLOW:
        assert [_carried_out(kernel, step.action) for step in plan.steps] == [0] * len(plan.steps)
        assert names_of(kernel.look()) == names_of(_end(stack, plan))


def _carried_out(kernel: KernelMachine, action: Action) -> int | None:
    answer = perform(kernel, action)
    kernel.complete()
    return answer


@given(exchanges(), policies)
def test_a_revert_without_steps_means_that_it_is_so_already(
    exchange: tuple[Stack, tuple[Livepatch, ...]], site: Policy
) -> None:
    stack, wanted = exchange
    assert (plan_revert(stack, wanted, site).steps == ()) is is_there(stack, wanted)


@given(stacks(), resting_livepatches(), policies)
def test_a_revert_during_a_transition_leads_where_its_reversal_leads(
    stack: Stack, wanted: tuple[Livepatch, ...], site: Policy
) -> None:
    if stack.transition is not None:
        assert _end(stack, plan_revert(stack, wanted, site)).livepatches == stack.origin.livepatches


@given(exchanges(), policies)
def test_a_revert_tells_of_a_gap_whenever_something_is_out_before_what_is_to_come_is_in(
    exchange: tuple[Stack, tuple[Livepatch, ...]], site: Policy
) -> None:
    stack, wanted = exchange
    plan = plan_revert(stack, wanted, site)
    kinds = [type(step.action) for step in plan.steps]
    opened = Disable in kinds and Load in kinds[kinds.index(Disable) :]
    told = [finding.decision for step in plan.steps for finding in step.verdict.findings if finding.code == GAP]
    assert plan.gap is opened
    assert told == [site.unpatched_gap.permission.decision] * opened


# --- Against every way that there is ---

goals = st.one_of(exchanges(), st.tuples(resting_stacks(readable=st.booleans()), resting_livepatches(most=3)))
"""A stack at rest and what to have in force instead, related to it or not."""


def _length(plan: Plan) -> int:
    return sum(isinstance(step.action, Load | Disable | Reverse) for step in plan.steps)


@given(goals, policies)
@settings(max_examples=300)
def test_where_there_is_an_allowed_way_the_plan_is_allowed_and_as_short_as_any(
    goal: tuple[Stack, tuple[Livepatch, ...]], site: Policy
) -> None:
    stack, wanted = goal
    plan = plan_revert(stack, wanted, site)
    shortest = shortest_way(stack, wanted, site)
    assert (plan.decision is Decision.ALLOW) is (shortest is not None)
    if shortest is not None:
        assert _length(plan) == shortest
        assert is_there(_end(stack, plan), wanted)


@given(goals, policies)
@settings(max_examples=150)
def test_where_there_is_none_the_plan_names_what_stands_in_the_way(
    goal: tuple[Stack, tuple[Livepatch, ...]], site: Policy
) -> None:
    stack, wanted = goal
    plan = plan_revert(stack, wanted, site)
    if plan.decision is not Decision.DENY:
        return
    assert plan.refusal is not None
    changed = {each.id for each in plan.refusal.changes}
    for finding in plan.refusal.reasons:
        assert finding.decision is Decision.DENY
        assert finding.remedy is not None
        assert finding.state is None or finding.state in changed


@given(goals, policies)
def test_a_plan_that_is_refused_leads_to_the_wanted_stack_as_well(
    goal: tuple[Stack, tuple[Livepatch, ...]], site: Policy
) -> None:
    stack, wanted = goal
    assert is_there(_end(stack, plan_revert(stack, wanted, site)), wanted)


@given(exchanges(), policies)
@settings(max_examples=150)
def test_without_the_kernel_in_the_way_a_plan_is_refused_by_rules_that_can_be_changed(
    goal: tuple[Stack, tuple[Livepatch, ...]], site: Policy
) -> None:
    stack, wanted = goal
    unleft = dataclasses.replace(stack, leftovers=())
    if plan_revert(unleft, wanted, ALLOW_ALL).decision is Decision.ALLOW:
        denials = [
            finding
            for step in plan_revert(unleft, wanted, site).steps
            for finding in step.verdict.findings
            if finding.decision is Decision.DENY
        ]
        assert all(each.rule.kind is not RuleKind.KERNEL for each in denials)
