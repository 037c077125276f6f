# SPDX-License-Identifier: GPL-2.0-or-later
"""The planner: the steps to a goal, and what they show when one of them is refused."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from klpd.judge.planner import plan_apply, plan_apply_all, plan_disable, plan_force, plan_remove, plan_revert
from klpd.judge.rules import NO_GAP, StateRule, Way
from klpd.judge.steps import same
from klpd.model import Decision, Installed, Leftover, target
from tests.builders import allowing, denying, installed, livepatch, policy, stack, sticky

if TYPE_CHECKING:
    from klpd.judge.planner import Plan
    from klpd.judge.rules import Ruling
    from klpd.model import Livepatch, Stack

ALLOW_ALL = policy()
A, B, C = (livepatch(each, replace=False) for each in ("a", "b", "c"))
ALL = livepatch("all", replace=True)


def _here(*livepatches: Livepatch) -> tuple[Installed, ...]:
    return tuple(Installed.expected(each) for each in livepatches)


def _moving(livepatch: Livepatch, *, enabled: bool = True) -> Installed:
    return dataclasses.replace(Installed.expected(livepatch), transition=True, enabled=enabled)


def _forced(livepatch: Livepatch) -> Installed:
    return dataclasses.replace(Installed.expected(livepatch), forced=True)


def _left(*names: str, removable: bool = True) -> tuple[Leftover, ...]:
    return tuple(Leftover(each, removable=removable) for each in names)


def _steps(plan: Plan) -> list[str]:
    return [f"{type(each.action).__name__.lower()} {target(each.action)}" for each in plan.steps]


# --- Apply ---


@pytest.mark.parametrize(
    ("where", "wanted", "steps"),
    [
        (stack(), A, ["load a"]),
        (stack(*_here(A)), B, ["load b"]),
        (stack(*_here(A, B)), ALL, ["load all", "remove a", "remove b"]),
        (stack(_forced(A), *_here(B)), ALL, ["load all", "remove b"]),
        (stack(leftovers=_left("a", "b")), A, ["remove a", "load a"]),
        (stack(*_here(A, B)), A, []),
        (stack(_moving(A)), A, []),
    ],
    ids=[
        "onto the unpatched kernel",
        "onto another",
        "one that replaces: what it replaced goes",
        "but not what the kernel keeps",
        "one whose name is taken by a module left over; other leftovers stay",
        "one that is in force",
        "one that is on its way in",
    ],
)
def test_applying(where: Stack, wanted: Livepatch, steps: list[str]) -> None:
    plan = plan_apply(where, wanted, ALLOW_ALL)
    assert (plan.goal, plan.decision, plan.gap) == (f"apply {wanted.name}", Decision.ALLOW, False)
    assert _steps(plan) == steps


@pytest.mark.parametrize(
    ("where", "code"),
    [
        (stack(*_here(livepatch("a", {9: 9}))), "already-loaded"),
        (stack(leftovers=_left("a", removable=False)), "module-left-over"),
        (stack(_moving(A, enabled=False)), "already-loaded"),
        (stack(*_here(A), _moving(ALL)), "already-loaded"),
        (stack(_moving(B)), "transition-running"),
    ],
    ids=[
        "another of that name is in force",
        "its name is taken for good",
        "it is on its way out",
        "it is being replaced",
        "another is on its way in",
    ],
)
def test_applying_what_cannot_be_applied_now(where: Stack, code: str) -> None:
    plan = plan_apply(where, A, ALLOW_ALL)
    assert plan.decision is Decision.DENY
    assert plan.refusal is not None
    assert code in [each.code for each in plan.refusal.reasons]


@pytest.mark.parametrize(
    ("where", "wanted", "steps"),
    [
        (stack(), (A, B), ["load a", "load b"]),
        (stack(*_here(A)), (B, ALL), ["load b", "load all", "remove a", "remove b"]),
        (stack(*_here(A)), (A, B), ["load b"]),
        (stack(*_here(A, B)), (A, B), []),
        (stack(), (A, ALL, A), ["load a", "load all", "remove a", "load a"]),
    ],
    ids=[
        "one after another",
        "what the first loads, the second replaces",
        "those in force take no step",
        "all are in force",
        "one that is replaced in between comes again",
    ],
)
def test_applying_several(where: Stack, wanted: tuple[Livepatch, ...], steps: list[str]) -> None:
    plan = plan_apply_all(where, wanted, ALLOW_ALL)
    assert (plan.goal, plan.decision) == ("apply " + ", ".join(each.name for each in wanted), Decision.ALLOW)
    assert _steps(plan) == steps


def test_each_of_several_is_judged_on_what_the_former_ones_lead_to() -> None:
    newer, older = livepatch("newer", {9: 2}), livepatch("older", {9: 1})
    plan = plan_apply_all(stack(), (newer, older), ALLOW_ALL)
    assert [each.verdict.decision for each in plan.steps][:2] == [Decision.ALLOW, Decision.DENY]


# --- Force ---


@pytest.mark.parametrize(("permission", "decision"), [(allowing(3), Decision.ALLOW), (denying(3), Decision.DENY)])
def test_forcing_takes_a_rule_that_allows_it(permission: Ruling, decision: Decision) -> None:
    plan = plan_force(stack(_moving(A)), "a", policy(force=permission))
    assert (plan.goal, plan.decision) == ("force the transition of a", decision)
    assert _steps(plan) == ["force a"]


# --- Disable ---


@pytest.mark.parametrize(
    ("where", "steps"),
    [
        (stack(*_here(A)), ["disable a", "remove a"]),
        (stack(*_here(A, B, C)), ["disable a", "remove a"]),
        (stack(_forced(A)), ["disable a"]),
        (stack(leftovers=_left("a", "b")), ["remove a"]),
    ],
    ids=["the only one", "the oldest of several", "one whose module stays", "one that is disabled already"],
)
def test_disabling(where: Stack, steps: list[str]) -> None:
    plan = plan_disable(where, "a", ALLOW_ALL)
    assert (plan.goal, plan.decision) == ("disable a", Decision.ALLOW)
    assert _steps(plan) == steps


@pytest.mark.parametrize(
    ("where", "code"),
    [
        (stack(*_here(B)), "not-installed"),
        (stack(*_here(A), _moving(B)), "transition-running"),
        (stack(_moving(A)), "transition-running"),
        (stack(leftovers=_left("a", removable=False)), "kept-for-good"),
        (stack(installed("a", {1: 1})), "state-change"),
    ],
)
def test_disabling_what_cannot_be_disabled_now(where: Stack, code: str) -> None:
    plan = plan_disable(where, "a", policy(sticky(1)))
    assert plan.decision is Decision.DENY
    assert plan.refusal is not None
    assert [each.code for each in plan.refusal.reasons] == [code]


# --- Revert ---

V1, V2 = livepatch("v1", {1: 1}), livepatch("v2", {1: 2})


@pytest.mark.parametrize(
    ("present", "wanted", "steps", "gap"),
    [
        ([A], [A], [], False),
        ([], [], [], False),
        ([A, B], [], ["disable b", "remove b", "disable a", "remove a"], False),
        ([A, B], [A], ["disable b", "remove b"], False),
        ([A], [A, B], ["load b"], False),
        ([], [ALL, B], ["load all", "load b"], False),
        ([A, B], [ALL], ["load all", "remove a", "remove b"], False),
        ([ALL], [A, B], ["load a", "load b", "disable all", "remove all"], False),
        ([A, B], [A, C], ["load c", "disable b", "remove b"], False),
        ([V2], [V1], ["disable v2", "remove v2", "load v1"], True),
        ([V1], [V2], ["load v2", "remove v1"], False),
        ([A, B], [B, A], ["disable a", "remove a", "load a"], True),
        ([A], [livepatch("a", {1: 1})], ["disable a", "remove a", "load a"], True),
    ],
    ids=[
        "to where we are",
        "from nothing to nothing",
        "to the unpatched kernel",
        "to what is below",
        "to what was on top",
        "from the unpatched kernel",
        "over the present ones, without a gap",
        "from one that replaces to those it replaced",
        "from one non-replacing livepatch to another",
        "to an older version",
        "to a newer version",
        "to another order",
        "to another file of the same name",
    ],
)
def test_reverting(present: list[Livepatch], wanted: list[Livepatch], steps: list[str], gap: bool) -> None:
    plan = plan_revert(stack(*_here(*present)), tuple(wanted), ALLOW_ALL)
    assert plan.decision is Decision.ALLOW
    assert _steps(plan) == steps
    assert plan.gap is gap


def test_reverting_to_the_livepatch_before_frees_its_name_first() -> None:
    where = stack(*_here(V2), leftovers=_left("v1"))
    assert _steps(plan_revert(where, (V1,), ALLOW_ALL)) == ["disable v2", "remove v2", "remove v1", "load v1"]


def test_a_goal_names_what_is_wanted() -> None:
    where = stack(*_here(ALL))
    assert plan_revert(where, (), ALLOW_ALL).goal == "revert to the unpatched kernel"
    assert plan_revert(where, (A, B), ALLOW_ALL).goal == "revert to a, b"


@pytest.mark.parametrize(
    ("where", "steps"),
    [
        (stack(*_here(A), _moving(B)), ["reverse b", "remove b"]),
        (stack(*_here(A), _moving(ALL)), ["reverse all", "remove all"]),
        (stack(*_here(A), _moving(B, enabled=False)), ["reverse b"]),
        (stack(*_here(A), _moving(ALL, enabled=False)), ["reverse all", "remove a"]),
    ],
    ids=["a load", "a load that replaces", "a disabling", "the reversal of a load that replaces"],
)
def test_reverting_a_transition_reverses_it_whatever_is_wanted(where: Stack, steps: list[str]) -> None:
    for wanted in ((), (C,)):
        plan = plan_revert(where, wanted, ALLOW_ALL)
        assert plan.decision is Decision.ALLOW
        assert _steps(plan) == steps


def test_a_sticky_state_refuses_the_step_that_would_take_it_out_and_shows_the_others() -> None:
    where = stack(*_here(A), installed("b", {1: 1}))
    plan = plan_revert(where, (), policy(sticky(1, line=7)))
    assert sorted(_steps(plan)) == ["disable a", "disable b", "remove a", "remove b"]
    assert plan.decision is Decision.DENY
    assert plan.refusal is not None
    assert plan.refusal.livepatch == "b"
    assert [each.state for each in plan.refusal.reasons] == [1]
    assert [each.rule.line for each in plan.refusal.reasons] == [7]


def test_a_livepatch_that_must_not_come_back_refuses_the_way_back() -> None:
    plan = plan_revert(stack(*_here(V2)), (V1,), policy(default=denying(4)))
    assert [each.verdict.decision for each in plan.steps] == [Decision.ALLOW, Decision.ALLOW, Decision.DENY]


def test_the_worst_verdict_decides_on_the_plan() -> None:
    where = stack(installed("a", None), installed("b"), readable=False)
    assert plan_disable(where, "a", ALLOW_ALL).decision is Decision.UNKNOWN
    assert plan_revert(where, (), policy(sticky(1))).decision is Decision.UNKNOWN


# --- Which way back ---


def test_the_way_back_keeps_a_state_that_must_not_fall_in_between() -> None:
    where = stack(installed("old", {1: 1}), installed("new", {1: 2}))
    plan = plan_revert(where, (), policy(StateRule(1, denying().rule, rulings={Way.DOWNGRADE: denying()})))
    assert plan.decision is Decision.ALLOW
    assert _steps(plan) == ["disable old", "remove old", "disable new", "remove new"]


def test_where_a_version_falls_the_rule_on_gaps_is_in_the_way_and_not_the_kernel() -> None:
    plan = plan_revert(stack(*_here(V2)), (V1,), policy(unpatched_gap=denying(6)))
    assert _steps(plan) == ["disable v2", "remove v2", "load v1"]
    assert plan.gap
    assert plan.refusal is plan.steps[0].verdict
    [finding] = plan.refusal.reasons
    assert (finding.code, finding.livepatch, finding.rule.line) == ("unpatched-gap", "v2", 6)
    assert finding.message == (
        "v2 has to go before v1 can come, so that the kernel runs without the fixes of either in between, and such "
        "gaps are denied"
    )
    assert finding.remedy is not None
    assert 'allow-unpatched-gap = "allow"' in finding.remedy


def test_a_gap_that_is_allowed_is_told_where_it_opens() -> None:
    plan = plan_revert(stack(*_here(V2)), (V1,), policy(unpatched_gap=allowing(6)))
    assert plan.decision is Decision.ALLOW
    told = [[each.code for each in step.verdict.findings if each.code == "unpatched-gap"] for step in plan.steps]
    assert told == [["unpatched-gap"], [], []]


def test_a_gap_is_denied_where_no_rule_speaks_of_it() -> None:
    unsaid = dataclasses.replace(ALLOW_ALL, unpatched_gap=NO_GAP)
    plan = plan_revert(stack(*_here(V2)), (V1,), unsaid)
    assert plan.refusal is not None
    assert [str(each.rule) for each in plan.refusal.reasons] == ['built-in: allow-unpatched-gap = "deny"']


def test_to_unpatch_the_kernel_is_no_gap() -> None:
    plan = plan_revert(stack(*_here(A, B)), (), policy(unpatched_gap=denying()))
    assert (plan.decision, plan.gap) == (Decision.ALLOW, False)


def test_a_way_without_a_gap_is_taken_where_there_is_one_as_short() -> None:
    plan = plan_revert(stack(*_here(ALL)), (A,), policy(unpatched_gap=denying()))
    assert plan.decision is Decision.ALLOW
    assert _steps(plan) == ["load a", "disable all", "remove all"]


def test_a_livepatch_that_may_replace_the_one_below_it_is_still_planned_for() -> None:
    upon = livepatch("upon", replace=None)
    plan = plan_revert(stack(), (A, upon), ALLOW_ALL)
    assert _steps(plan) == ["load a", "load upon", "remove a"]


def test_many_livepatches_that_must_not_go_are_no_trouble() -> None:
    where = stack(*(installed(f"klp_{number}", {number: 1}) for number in range(1, 25)))
    plan = plan_revert(where, (), policy(*(sticky(number) for number in range(1, 25))))
    assert plan.decision is Decision.DENY
    assert len(plan.steps) == 48


# --- Remove ---


@pytest.mark.parametrize(
    ("where", "code"),
    [
        (stack(leftovers=_left("a")), None),
        (stack(leftovers=_left("a", removable=False)), "kept-for-good"),
        (stack(*_here(A)), "in-use"),
        (stack(), "not-loaded"),
    ],
)
def test_removing_is_one_step(where: Stack, code: str | None) -> None:
    plan = plan_remove(where, "a", ALLOW_ALL)
    assert (plan.goal, _steps(plan)) == ("remove a", ["remove a"])
    assert [each.code for each in plan.refusal.reasons] == [code] if plan.refusal else code is None


# --- The same livepatch ---


HERE = Installed.expected(A)


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (HERE, True),
        (dataclasses.replace(HERE, name="b"), False),
        (dataclasses.replace(HERE, digest="other"), False),
        (dataclasses.replace(HERE, build_id="other"), True),
        (dataclasses.replace(HERE, digest=None), True),
        (dataclasses.replace(HERE, digest=None, build_id="other"), False),
        (dataclasses.replace(HERE, digest=None, build_id=None), False),
    ],
    ids=[
        "all the same",
        "another name",
        "another digest",
        "the digest counts more than the build id",
        "no digest: the build id counts",
        "no digest, another build id",
        "nothing to know it by",
    ],
)
def test_an_installed_livepatch_is_known_by_digest_or_else_by_build_id(present: Installed, expected: bool) -> None:
    assert same(present, A) is expected


def test_two_livepatches_without_a_build_id_are_not_taken_for_the_same() -> None:
    nameless = dataclasses.replace(A, build_id=None)
    assert not same(dataclasses.replace(Installed.expected(nameless), digest=None), nameless)
