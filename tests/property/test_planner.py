# SPDX-License-Identifier: GPL-2.0-or-later
"""Laws of the planner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from klpd.judge.planner import plan_apply, plan_disable, plan_revert, same
from klpd.judge.verdict import judge
from klpd.model import Decision, Disable, Load
from tests.builders import names as names_of
from tests.builders import policy
from tests.property.kernel_machine import perform
from tests.property.strategies import (
    exchanges,
    kernels,
    known_livepatches,
    livepatches,
    names,
    policies,
    resting_livepatches,
    stacks,
    state_arrays,
)

if TYPE_CHECKING:
    from klpd.judge.planner import Plan
    from klpd.judge.rules import Policy
    from klpd.model import Action, Livepatch, Stack
    from tests.property.kernel_machine import KernelMachine

ALLOW_ALL = policy()


def _end(stack: Stack, plan: Plan) -> Stack:
    for step in plan.steps:
        stack = stack.after(step.action)
    return stack


def _is(stack: Stack, wanted: tuple[Livepatch, ...]) -> bool:
    return len(stack.livepatches) == len(wanted) and all(map(same, stack.livepatches, wanted))


@st.composite
def plans(draw: st.DrawFn) -> tuple[Stack, Policy, Plan]:
    """Any plan, with what it was made for."""
    stack, site = draw(stacks(readable=st.booleans())), draw(policies)
    plan = draw(
        st.one_of(
            st.builds(plan_apply, st.just(stack), livepatches(), st.just(site)),
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
        assert step.verdict == judge(stack, step.action, site)
        stack = stack.after(step.action)


@given(plans())
def test_a_plan_is_allowed_only_if_the_judge_allows_each_step(made: tuple[Stack, Policy, Plan]) -> None:
    _stack, _site, plan = made
    decisions = [step.verdict.decision for step in plan.steps]
    assert (plan.decision is Decision.ALLOW) is all(each is Decision.ALLOW for each in decisions)
    assert (plan.decision is Decision.DENY) is (Decision.DENY in decisions)
    assert (plan.refusal is None) is (plan.decision is Decision.ALLOW)
    if plan.refusal is not None:
        assert plan.refusal.decision is not Decision.ALLOW


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
        assert _is(_end(stack, plan), wanted)


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
    assert (plan_revert(stack, wanted, site).steps == ()) is _is(stack, wanted)


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
    assert plan.gap is (Load in kinds and Disable in kinds[: kinds.index(Load)])
