# SPDX-License-Identifier: GPL-2.0-or-later
"""Drift is what neither an approval nor the policy accounts for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from klpd.judge.drift import find_drift, judge_installed
from klpd.judge.rules import (
    Comparison,
    LivepatchRule,
    Match,
    Mode,
    Permission,
    Policy,
    Ruling,
    StateRule,
    VersionRange,
)
from klpd.model import Decision, Installed, Livepatch, Rule, RuleKind, Stack, State, StatesSource

RULE = Rule(RuleKind.POLICY, "/etc/klpd/policy.d/50-test.toml", 3)
DENY = Ruling(Permission.DENY, RULE)
ALLOW = Ruling(Permission.ALLOW, RULE)
PRESENT = Installed("klp_one", states=(State(1, 2),), build_id="ab", digest="d1")


def policy(*rules: LivepatchRule, default: Ruling = DENY, states: dict[int, StateRule] | None = None) -> Policy:
    return Policy(Mode.ENFORCE, default, DENY, states or {}, rules)


def rule(permission: Permission, match: Match) -> LivepatchRule:
    return LivepatchRule(RULE, match, permission)


BELOW_2 = {1: StateRule(1, RULE, versions=VersionRange(((Comparison.LESS, 2),)))}


@pytest.mark.parametrize(
    ("by", "decision"),
    [
        (policy(), Decision.DENY),
        (policy(default=ALLOW), Decision.ALLOW),
        (policy(rule(Permission.ALLOW, Match(name="klp-*"))), Decision.ALLOW),
        (policy(rule(Permission.ALLOW, Match(build_id="ab"))), Decision.ALLOW),
        (policy(rule(Permission.ALLOW, Match(sha256="d1"))), Decision.ALLOW),
        (policy(rule(Permission.ALLOW, Match(sha256="d2"))), Decision.DENY),
        (policy(rule(Permission.DENY, Match(name="klp_one")), default=ALLOW), Decision.DENY),
        (policy(default=ALLOW, states=BELOW_2), Decision.DENY),
    ],
)
def test_what_is_installed_is_judged_by_the_rules_on_livepatches_and_versions(by: Policy, decision: Decision) -> None:
    assert judge_installed(PRESENT, by).decision is decision


def test_what_was_approved_is_no_drift_whatever_the_policy_says_now() -> None:
    assert find_drift(Stack((PRESENT,)), lambda _each: True, policy()) == ()


def test_what_nobody_approved_is_drift_unless_a_rule_allows_it() -> None:
    (found,) = find_drift(Stack((PRESENT,)), lambda _each: False, policy())
    assert found.livepatch == "klp_one"
    assert find_drift(Stack((PRESENT,)), lambda _each: False, policy(default=ALLOW)) == ()


def in_force(states: tuple[State, ...], *, replaces: bool | None = None) -> Installed:
    return replace(PRESENT, states=states, states_source=StatesSource.MEMORY, replace=replaces)


FILE = Livepatch("klp_one", "d1", 1, replace=False, states=(State(1, 2),), objects=())


@pytest.mark.parametrize(
    ("there", "file", "said"),
    [
        (in_force((State(1, 9),)), FILE, "in force with state 0x1 version 9; its file has state 0x1 version 2"),
        (in_force(()), FILE, "in force with no states; its file has state 0x1 version 2"),
        (
            in_force((State(1, 2),), replaces=True),
            FILE,
            "replaces the livepatches before it; as its file says, it does not",
        ),
    ],
)
def test_what_is_in_force_unlike_its_file_is_drift_though_it_was_approved(
    there: Installed, file: Livepatch, said: str
) -> None:
    (found,) = find_drift(Stack((there,)), lambda _each: True, policy(default=ALLOW), {"d1": file}.get)
    (finding,) = found.verdict.findings
    assert (finding.code, found.verdict.decision) == ("unlike-its-file", Decision.DENY)
    assert said in finding.message


@pytest.mark.parametrize(
    ("there", "file"),
    [
        (in_force((State(1, 2),), replaces=False), FILE),
        (in_force((State(1, 9),), replaces=True), replace(FILE, states=None, replace=None)),
        (replace(PRESENT, states=(State(1, 9),), states_source=StatesSource.FILE), FILE),
        (replace(PRESENT, digest="d2", states=(State(1, 9),), states_source=StatesSource.MEMORY), FILE),
    ],
)
def test_what_is_like_its_file_or_of_which_it_cannot_be_known_is_none(there: Installed, file: Livepatch) -> None:
    assert find_drift(Stack((there,)), lambda _each: True, policy(), {"d1": file}.get) == ()
