# SPDX-License-Identifier: GPL-2.0-or-later
"""What a loader and `klpctl apply` get beside what the rules say."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd.judge.planner import plan_apply
from klpd.judge.rules import Mode
from klpd.judge.ways import Gate, Source, assess, by_apply, gate_of
from klpd.model import Admission, Decision, Declaration, Leftover, Outcome
from tests.builders import denying, installed, livepatch, policy, stack

if TYPE_CHECKING:
    from klpd.model import Assessment

NEW = livepatch("new", {1: 2})
LOST = stack(installed("old", {7: 1}))
"""The kernel does not let `new` replace that."""
IN_TREE = Source("/lib/modules/x/new.ko", watched=True)
ELSEWHERE = Source("/root/new.ko", watched=False)
USERS = replace(IN_TREE, distrust="it belongs to user 1000")
DENIED = policy(default=denying())
AUDITED = policy(default=denying(), mode=Mode.AUDIT)


def codes(admission: Admission | None) -> list[str]:
    assert admission is not None
    return [each.code for each in admission.reasons]


def outcomes(assessment: Assessment) -> tuple[str, str]:
    assert assessment.insmod is not None
    assert assessment.apply is not None
    return assessment.insmod.outcome.value, assessment.apply.outcome.value


def test_what_every_rule_allows_goes_in_by_either_way() -> None:
    found = assess(stack(), NEW, policy(), IN_TREE, Gate.CLOSED)
    assert found.decision is Decision.ALLOW
    assert outcomes(found) == ("allowed", "allowed")
    assert found.insmod == found.apply == Admission(Outcome.ALLOWED)


def test_what_a_rule_denies_goes_in_by_neither_and_both_say_why() -> None:
    found = assess(stack(), NEW, DENIED, IN_TREE, Gate.CLOSED)
    assert outcomes(found) == ("refused", "refused")
    assert codes(found.insmod) == codes(found.apply) == ["default"]


@pytest.mark.parametrize(
    ("source", "gate", "insmod", "code"),
    [
        (IN_TREE, Gate.AUDITING, "let-in", "audit-mode"),
        (ELSEWHERE, Gate.AUDITING, "let-in", "audit-mode"),
        (IN_TREE, Gate.OPEN, "let-in", "guard-open"),
        (IN_TREE, Gate.MISSING, "let-in", "guard-missing"),
        (IN_TREE, Gate.FALLBACK, "refused", "default"),
        (ELSEWHERE, Gate.FALLBACK, "let-in", "guard-missing"),
        (replace(IN_TREE, packed=True), Gate.FALLBACK, "let-in", "guard-missing"),
        (replace(IN_TREE, packed=True), Gate.CLOSED, "refused", "default"),
    ],
)
def test_a_loader_gets_in_what_is_denied_where_nothing_is_refused(
    source: Source, gate: Gate, insmod: str, code: str
) -> None:
    found = assess(stack(), NEW, DENIED, source, gate)
    assert found.decision is Decision.DENY
    assert outcomes(found) == (insmod, "refused")
    assert codes(found.insmod)[0] == code


def test_a_job_does_in_audit_mode_what_is_denied() -> None:
    found = assess(stack(), NEW, AUDITED, IN_TREE, Gate.AUDITING)
    assert outcomes(found) == ("let-in", "let-in")
    assert codes(found.apply) == ["audit-mode"]


@pytest.mark.parametrize("gate", Gate)
def test_what_the_kernel_refuses_goes_in_by_no_way(gate: Gate) -> None:
    found = assess(LOST, NEW, policy(mode=Mode.AUDIT), IN_TREE, gate)
    assert outcomes(found) == ("refused", "refused")
    assert "state-missing" in codes(found.insmod)


@pytest.mark.parametrize(
    ("source", "code"), [(ELSEWHERE, "not-watched"), (USERS, "manifest-distrusted")], ids=["elsewhere", "users"]
)
def test_a_loader_gets_less_than_the_rules_allow(source: Source, code: str) -> None:
    found = assess(stack(), NEW, policy(), source, Gate.CLOSED)
    assert found.decision is Decision.ALLOW
    assert outcomes(found) == ("refused", "allowed")
    assert codes(found.insmod) == [code]


def test_that_root_alone_may_apply_what_others_declare_is_said_of_both_ways() -> None:
    found = assess(stack(), NEW, policy(), USERS, Gate.CLOSED)
    assert codes(found.insmod) == codes(found.apply) == ["manifest-distrusted"]


def test_a_job_removes_first_what_is_left_over() -> None:
    left = stack(leftovers=(Leftover("new", removable=True),))
    found = assess(left, NEW, policy(), IN_TREE, Gate.CLOSED)
    assert outcomes(found) == ("refused", "allowed")
    assert codes(found.insmod) == ["module-left-over"]
    assert codes(found.apply) == ["left-over-removed"]


def test_a_job_has_nothing_to_do_for_what_is_in_force() -> None:
    found = assess(stack(installed("new", {1: 2}, replace=True)), NEW, policy(), IN_TREE, Gate.CLOSED)
    assert outcomes(found) == ("refused", "nothing")
    assert codes(found.apply) == ["already-in-force"]


@pytest.mark.parametrize("gate", Gate)
def test_what_cannot_be_known_is_approved_by_no_way(gate: Gate) -> None:
    unknown = replace(NEW, declared=Declaration(unreadable="it may not be read"))
    found = assess(stack(), unknown, policy(), IN_TREE, gate)
    assert found.decision is Decision.UNKNOWN
    assert outcomes(found) == ("unknown", "unknown")
    assert codes(found.insmod) == ["declarations-unreadable"]


def test_a_plan_of_several_livepatches_comes_to_what_its_steps_do() -> None:
    assert by_apply(plan_apply(stack(), NEW, AUDITED), AUDITED).outcome is Outcome.LET_IN
    assert by_apply(plan_apply(stack(), NEW, DENIED), DENIED).outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    ("mode", "opened", "guarded", "gate"),
    [
        (Mode.ENFORCE, False, Gate.CLOSED, Gate.CLOSED),
        (Mode.ENFORCE, False, Gate.FALLBACK, Gate.FALLBACK),
        (Mode.AUDIT, False, Gate.CLOSED, Gate.AUDITING),
        (Mode.ENFORCE, True, Gate.FALLBACK, Gate.OPEN),
        (Mode.AUDIT, True, Gate.CLOSED, Gate.OPEN),
        (Mode.ENFORCE, True, Gate.MISSING, Gate.MISSING),
    ],
)
def test_the_gate_is_as_the_policy_and_whoever_opened_it_have_it(
    mode: Mode, opened: bool, guarded: Gate, gate: Gate
) -> None:
    assert gate_of(mode, opened=opened, guarded=guarded) is gate
