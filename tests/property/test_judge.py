# SPDX-License-Identifier: GPL-2.0-or-later
"""Laws of the model and the judge."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from klpd.judge.declared import COMPATIBLE
from klpd.judge.permissions import never_objects, never_objects_to, permits, write_permissions
from klpd.judge.reversal import RESTORED
from klpd.judge.rules import Mode, Permission, StateRule, Way
from klpd.judge.verdict import judge, obstructs, state_changes
from klpd.model import (
    ChangeKind,
    Decision,
    Disable,
    Installed,
    Load,
    Remove,
    Reverse,
    RuleKind,
    StateChange,
    changes,
)
from tests import builders
from tests.builders import allowing, policy, sticky
from tests.property.kernel_machine import Patch, is_patch_compatible, perform
from tests.property.strategies import (
    actions,
    actions_on,
    ids,
    kernels,
    known_actions_on,
    livepatches,
    names,
    policies,
    resting_stacks,
    stacks,
    state_arrays,
    undeclared,
    versions,
)

if TYPE_CHECKING:
    from klpd.judge.rules import Policy
    from klpd.model import Action, Livepatch, Stack
    from tests.property.kernel_machine import KernelMachine

ALLOW_ALL = policy()
UNSTICKY = policy(*(StateRule(each, allowing().rule, rulings=dict.fromkeys(Way, allowing())) for each in range(4)))
"""What is declared to be sticky is not, since every way is allowed by name."""
REVERSE_ALL = policy(*(StateRule(each, allowing().rule, rulings={Way.REVERSE: allowing()}) for each in range(4)))
"""Nothing but the kernel's rules is left."""
state_sets = st.dictionaries(ids, versions)

# --- Changes ---


@given(state_sets, state_sets)
def test_changes_are_exact(before: dict[int, int], after: dict[int, int]) -> None:
    told = changes(before, after)
    assert {each.id: each.before for each in told if each.before is not None} == before
    assert {each.id: each.after for each in told if each.after is not None} == after
    assert [each.id for each in told] == sorted({*before, *after})


@given(state_sets)
def test_between_a_set_of_states_and_itself_everything_is_kept(states: dict[int, int]) -> None:
    assert all(each.kind is ChangeKind.KEEP for each in changes(states, states))


def _backwards(told: tuple[StateChange, ...]) -> tuple[StateChange, ...]:
    return tuple(StateChange(each.id, each.after, each.before) for each in told)


@given(resting_stacks(), livepatches())
def test_a_reversal_is_the_changes_of_the_load_read_backwards(stack: Stack, livepatch: Livepatch) -> None:
    assume(stack.find(livepatch.name) is None)
    moving = dataclasses.replace(Installed.expected(livepatch), transition=True)
    during = dataclasses.replace(stack, livepatches=(*stack.livepatches, moving))
    reversal = state_changes(during, Reverse(livepatch.name))
    assert reversal == _backwards(state_changes(stack, Load(livepatch)))


@given(resting_stacks(), st.data())
def test_a_reversal_is_the_changes_of_the_disabling_read_backwards(stack: Stack, data: st.DataObject) -> None:
    assume(stack.livepatches)
    going = data.draw(st.sampled_from(stack.livepatches))
    moving = dataclasses.replace(going, transition=True, enabled=False)
    during = dataclasses.replace(
        stack, livepatches=tuple(moving if each is going else each for each in stack.livepatches)
    )
    assert state_changes(during, Reverse(going.name)) == _backwards(state_changes(stack, Disable(going.name)))


@given(stacks(), names)
def test_removing_a_module_changes_no_state_whatever_moves_meanwhile(stack: Stack, name: str) -> None:
    assert all(each.kind is ChangeKind.KEEP for each in state_changes(stack, Remove(name)))


# --- The kernel ---


def _same(one: Stack, other: Stack) -> bool:
    """Equal but for the order of the leftovers, which has no meaning."""
    return (one.livepatches, frozenset(one.leftovers)) == (other.livepatches, frozenset(other.leftovers))


@given(kernels())
@settings(max_examples=150)
def test_a_transition_ends_where_the_kernel_takes_it(kernel: KernelMachine) -> None:
    expected = kernel.look().settled
    kernel.complete()
    assert _same(kernel.look(), expected)


@given(kernels())
@settings(max_examples=150)
def test_a_reversed_transition_ends_where_the_kernel_takes_it(kernel: KernelMachine) -> None:
    expected = kernel.look().origin
    if kernel.moving is not None:
        kernel.write_enabled(kernel.moving.name, not kernel.moving.enabled)
    kernel.complete()
    assert _same(kernel.look(), expected)


@given(kernels(), st.data())
@settings(max_examples=150)
def test_the_judge_refuses_what_the_kernel_refuses_and_nothing_else(kernel: KernelMachine, data: st.DataObject) -> None:
    action = data.draw(known_actions_on(kernel.look()))
    verdict = judge(kernel.look(), action, REVERSE_ALL)
    expected = kernel.look().after(action).settled
    answer = perform(kernel, action)
    assert verdict.decision is (Decision.ALLOW if answer == 0 else Decision.DENY)
    if answer == 0:
        kernel.complete()
        assert _same(kernel.look(), expected)


@given(
    resting_stacks(states=state_arrays, declared=undeclared),
    livepatches(named=st.just("klp_new"), states=state_arrays, replace=st.booleans(), declared=undeclared),
)
def test_the_judge_refuses_what_klp_is_patch_compatible_refuses_even_on_stacks_that_it_never_let_come_about(
    stack: Stack, livepatch: Livepatch
) -> None:
    listed = [
        Patch(builders.livepatch(each.name, each.states, replace=each.replace is True)) for each in stack.livepatches
    ]
    compatible = is_patch_compatible(Patch(livepatch), listed)
    assert judge(stack, Load(livepatch), ALLOW_ALL).decision is (Decision.ALLOW if compatible else Decision.DENY)


# --- What is declared ---


def _as_if_real(each: Installed | Livepatch) -> Patch:
    """What the kernel would have if it knew the declared states, too."""
    states = dict(reversed([(state.id, state.version) for state in each.declared.states or ()]))
    states.update(reversed([(state.id, state.version) for state in each.states or ()]))
    return Patch(builders.livepatch(each.name, states, replace=each.replace is True))


def _real(each: Installed | Livepatch) -> Patch:
    return Patch(builders.livepatch(each.name, each.states, replace=each.replace is True))


@given(
    resting_stacks(states=state_arrays),
    livepatches(named=st.just("klp_new"), states=state_arrays, replace=st.booleans()),
)
@settings(max_examples=400)
def test_declared_states_are_kept_as_the_kernel_would_if_it_knew_them(stack: Stack, livepatch: Livepatch) -> None:
    real = {each.id: each.version for each in reversed(livepatch.states or ())}
    assume(all(real.get(each.id, each.version) == each.version for each in livepatch.declared.states or ()))
    assume(all(len({each.id for each in one.states or ()}) == len(one.states or ()) for one in stack.livepatches))
    by_kernel = is_patch_compatible(_real(livepatch), [_real(each) for each in stack.livepatches])
    as_if_real = is_patch_compatible(_as_if_real(livepatch), [_as_if_real(each) for each in stack.livepatches])
    denials = [each for each in judge(stack, Load(livepatch), UNSTICKY).findings if each.decision is Decision.DENY]
    assert (not denials) is (by_kernel and as_if_real)
    assert any(each.rule.kind is RuleKind.KERNEL for each in denials) is not by_kernel
    assert any(each.rule == COMPATIBLE for each in denials) or as_if_real or not by_kernel


@given(stacks(), actions)
def test_what_a_livepatch_in_force_is_declared_to_make_sticky_stays(stack: Stack, action: Action) -> None:
    if judge(stack, action, ALLOW_ALL).decision is not Decision.ALLOW:
        return
    before, after = stack.settled.states, stack.after(action).settled.states
    for livepatch in stack.livepatches:
        for state in livepatch.declared.states or ():
            if state.sticky and state.id in before:
                assert state.id in after
                assert after[state.id] >= before[state.id]


@given(stacks(readable=st.booleans()), actions, policies)
def test_what_is_declared_to_be_sticky_only_ever_takes_away(stack: Stack, action: Action, site: Policy) -> None:
    def unsticky(each: Installed) -> Installed:
        states = tuple(dataclasses.replace(state, sticky=False) for state in each.declared.states or ())
        return (
            each
            if each.declared.states is None
            else dataclasses.replace(each, declared=dataclasses.replace(each.declared, states=states))
        )

    without = dataclasses.replace(stack, livepatches=tuple(map(unsticky, stack.livepatches)))
    if judge(without, action, site).decision is not Decision.ALLOW:
        assert judge(stack, action, site).decision is not Decision.ALLOW


# --- Policies ---


@given(stacks(), actions)
def test_a_policy_that_allows_everything_never_denies_by_itself(stack: Stack, action: Action) -> None:
    verdict = judge(stack, action, ALLOW_ALL)
    denials = [each for each in verdict.findings if each.decision is Decision.DENY]
    assert all(each.rule.kind is not RuleKind.POLICY for each in denials)
    assert verdict.decision is (Decision.DENY if denials else Decision.ALLOW)


@given(stacks(readable=st.booleans()), actions, policies)
def test_a_verdict_is_as_bad_as_its_worst_finding_and_a_denial_says_what_to_do(
    stack: Stack, action: Action, site: Policy
) -> None:
    verdict = judge(stack, action, site)
    worst = min(
        verdict.findings, key=lambda each: [Decision.DENY, Decision.UNKNOWN, Decision.ALLOW].index(each.decision)
    )
    assert verdict.decision is worst.decision
    assert worst in verdict.reasons
    assert all(each.remedy for each in verdict.findings if each.decision is not Decision.ALLOW)


@given(stacks(readable=st.booleans()), actions, policies)
def test_every_changed_state_has_a_finding_of_its_own_unless_a_module_is_just_removed(
    stack: Stack, action: Action, site: Policy
) -> None:
    assume(not isinstance(action, Remove))
    verdict = judge(stack, action, site)
    assert all(any(True for _finding in verdict.about(change.id)) for change in verdict.changes)


@given(stacks(), actions, policies)
def test_a_verdict_is_unknown_only_to_who_could_not_read_the_kernel(stack: Stack, action: Action, site: Policy) -> None:
    assert judge(stack, action, site).decision is not Decision.UNKNOWN


@given(stacks(), actions, policies)
def test_rules_on_states_only_ever_take_away_but_for_what_takes_a_rule_that_names_the_state(
    stack: Stack, action: Action, site: Policy
) -> None:
    without = judge(stack, action, dataclasses.replace(site, states={}))
    nameable = ("declared-sticky", "not-restored")
    if any(each.decision is not Decision.ALLOW and each.code not in nameable for each in without.findings):
        assert judge(stack, action, site).decision is not Decision.ALLOW


@given(stacks(), policies)
@settings(max_examples=150)
def test_what_the_policy_never_objects_to_it_permits_in_every_stack(stack: Stack, site: Policy) -> None:
    declarations = [each.declared for each in stack.livepatches]
    for livepatch, each in zip(stack.livepatches, write_permissions(stack, site), strict=True):
        if never_objects_to(livepatch, site, declarations):
            event("never objected to")
            assert permits(each.enabled)


@given(resting_stacks(), livepatches(named=st.just("klp_new"), replace=st.none()), policies, st.booleans())
@settings(max_examples=150)
def test_a_livepatch_that_may_replace_or_not_is_let_in_only_if_it_would_be_either_way(
    stack: Stack, livepatch: Livepatch, site: Policy, replaces: bool
) -> None:
    site = dataclasses.replace(site, livepatches=())
    if judge(stack, Load(dataclasses.replace(livepatch, replace=replaces)), site).decision is not Decision.ALLOW:
        assert judge(stack, Load(livepatch), site).decision is not Decision.ALLOW


@given(stacks(readable=st.booleans()), actions, policies)
def test_auditing_lets_through_all_but_what_the_kernel_itself_refuses(
    stack: Stack, action: Action, site: Policy
) -> None:
    verdict = judge(stack, action, site)
    enforcing, auditing = (obstructs(verdict, dataclasses.replace(site, mode=mode)) for mode in Mode)
    assert enforcing is (verdict.decision is not Decision.ALLOW)
    assert auditing is any(
        each.decision is Decision.DENY and each.rule.kind is RuleKind.KERNEL for each in verdict.findings
    )
    assert enforcing or not auditing


@given(stacks(), policies)
def test_where_the_policy_never_objects_nothing_but_a_state_that_is_not_restored_forbids_a_write_to_enabled(
    stack: Stack, site: Policy
) -> None:
    assume(never_objects(site, [each.declared for each in stack.livepatches]))
    for each in write_permissions(stack, site):
        assert permits(each.enabled) is all(finding.rule is not RESTORED for finding in each.enabled.findings)


@given(resting_stacks(), livepatches(named=st.just("klp_new"), replace=st.booleans()), policies)
@settings(max_examples=150)
def test_a_reversal_takes_a_state_back_only_if_that_is_restored_or_a_rule_allows_it(
    stack: Stack, livepatch: Livepatch, site: Policy
) -> None:
    moving = dataclasses.replace(Installed.expected(livepatch), transition=True)
    during = dataclasses.replace(stack, livepatches=(*stack.livepatches, moving))
    ruled = {
        each.id: each.rulings[Way.REVERSE].permission for each in site.states.values() if Way.REVERSE in each.rulings
    }
    verdict = judge(during, Reverse("klp_new"), site)
    for change in verdict.changes:
        if change.kind is ChangeKind.DOWNGRADE:
            said = moving.declared.restores(change.id)
            restored = moving.restores is True if said is None else said
            stays = any(state.sticky for each in during.livepatches for state in each.declared.of(change.id))
            free = restored and not stays if change.id not in ruled else ruled[change.id] is Permission.ALLOW
            assert all(each.decision is Decision.ALLOW for each in verdict.about(change.id)) is free


@given(kernels(), st.data(), ids)
def test_who_writes_what_is_permitted_never_loses_a_sticky_state(
    kernel: KernelMachine, data: st.DataObject, state_id: int
) -> None:
    site = policy(sticky(state_id))
    for _step in range(8):
        before = kernel.look().settled.states.get(state_id)
        permitted = [each.livepatch for each in write_permissions(kernel.look(), site) if permits(each.enabled)]
        if not permitted:
            break
        name = data.draw(st.sampled_from(permitted))
        kernel.write_enabled(name, data.draw(st.booleans()))
        if data.draw(st.booleans()):
            kernel.complete()
        after = kernel.look().settled.states.get(state_id)
        assert before is None or (after is not None and after >= before)


@given(stacks(), st.data(), policies, ids)
def test_no_sequence_of_allowed_actions_takes_a_sticky_state_out_or_back(
    stack: Stack, data: st.DataObject, site: Policy, state_id: int
) -> None:
    site = dataclasses.replace(site, states={**site.states, state_id: sticky(state_id)})
    for _step in range(8):
        action = data.draw(actions_on(stack, livepatches()))
        if judge(stack, action, site).decision is not Decision.ALLOW:
            continue
        before = stack.settled.states.get(state_id)
        stack = stack.after(action)
        after = stack.settled.states.get(state_id)
        assert before is None or (after is not None and after >= before)


@given(kernels(), st.data(), ids)
def test_a_kernel_that_asks_the_judge_first_never_loses_a_sticky_state(
    kernel: KernelMachine, data: st.DataObject, state_id: int
) -> None:
    site = policy(sticky(state_id))
    before = kernel.look().settled.states.get(state_id)
    for _step in range(8):
        action = data.draw(known_actions_on(kernel.look()))
        if judge(kernel.look(), action, site).decision is Decision.ALLOW:
            perform(kernel, action)
        elif data.draw(st.booleans()):
            kernel.complete()
        after = kernel.look().settled.states.get(state_id)
        assert before is None or (after is not None and after >= before)
        before = after
