# SPDX-License-Identifier: GPL-2.0-or-later
"""The site's rules: livepatches, versions, ways of a change, unknown states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klpd.judge import kernel, site
from klpd.judge.rules import Comparison, LivepatchRule, Match, Permission, StateRule, VersionRange, Way
from klpd.model import Decision, StateChange
from tests.builders import POLICY_FILE, allowing, denying, installed, livepatch, policy, stack, sticky

if TYPE_CHECKING:
    from klpd.judge.rules import Ruling
    from tests.builders import States


def _rule(
    line: int, permission: Permission | None, reason: str | None = None, name: str | None = None
) -> LivepatchRule:
    return LivepatchRule(denying(line).rule, Match(name=name), permission, reason)


# --- Rules on livepatches ---


@pytest.mark.parametrize(
    ("rules", "decision", "line"),
    [
        ([], Decision.DENY, 1),
        ([_rule(2, Permission.ALLOW, name="klp_*")], Decision.ALLOW, 2),
        ([_rule(2, Permission.ALLOW, name="other")], Decision.DENY, 1),
        ([_rule(2, Permission.DENY, name="klp_*"), _rule(3, Permission.ALLOW, name="klp_new")], Decision.DENY, 2),
        ([_rule(2, Permission.ALLOW, name="klp_new"), _rule(3, Permission.DENY, name="klp_*")], Decision.ALLOW, 2),
        ([_rule(2, Permission.DENY, name="other"), _rule(3, Permission.ALLOW)], Decision.ALLOW, 3),
        ([_rule(2, None), _rule(3, Permission.ALLOW)], Decision.ALLOW, 3),
        ([_rule(2, None)], Decision.DENY, 1),
    ],
    ids=[
        "none: the default",
        "it matches",
        "it does not match: the default",
        "the first decides, though the second is closer",
        "the first decides, though the second denies",
        "the first that matches",
        "the first that says something of it",
        "none that says something of it: the default",
    ],
)
def test_the_first_rule_that_matches_decides_on_a_livepatch(
    rules: list[LivepatchRule], decision: Decision, line: int
) -> None:
    applied = policy(default=denying(1), livepatches=tuple(rules))
    [finding] = site.livepatch_findings(livepatch(), applied)
    assert (finding.decision, finding.rule.place, finding.rule.line) == (decision, POLICY_FILE, line)
    assert finding.livepatch == "klp_new"
    assert (finding.remedy is None) is (decision is Decision.ALLOW)


def test_a_rule_tells_its_reason() -> None:
    applied = policy(livepatches=(_rule(2, Permission.DENY, "breaks the raid driver", name="klp_new"),))
    [finding] = site.livepatch_findings(livepatch(), applied)
    assert str(finding) == f"klp_new is denied by a rule: breaks the raid driver ({POLICY_FILE}:2)"


def test_who_meets_the_default_is_told_the_rule_that_would_let_the_livepatch_in() -> None:
    [finding] = site.livepatch_findings(livepatch(), policy(default=denying(4)))
    assert str(finding) == f"no rule names klp_new, and such livepatches are denied ({POLICY_FILE}:4)"
    assert finding.remedy == 'add a rule for it: [[livepatch]] match = { name = "klp_new" } verdict = "allow"'


# --- Versions ---


def _versions(state_id: int, least: int) -> StateRule:
    versions = VersionRange(((Comparison.GREATER_EQUAL, least),))
    return StateRule(state_id, denying(5).rule, versions=versions, versions_rule=denying(8).rule)


@pytest.mark.parametrize(
    ("states", "denied"),
    [({1: 3}, []), ({1: 2}, []), ({1: 1}, [1]), ({2: 1}, []), ({}, []), (None, []), ({3: 0, 1: 1}, [3, 1])],
)
def test_versions_out_of_the_accepted_range_are_denied(states: States, denied: list[int]) -> None:
    findings = list(site.version_findings(livepatch(states=states), policy(_versions(1, 2), _versions(3, 1))))
    assert [each.state for each in findings] == denied
    assert all(each.decision is Decision.DENY and each.code == "state-version" for each in findings)


def test_a_version_out_of_range_is_told_with_the_range_and_its_line() -> None:
    [finding] = site.version_findings(livepatch(states={1: 1}), policy(_versions(1, 2)))
    assert str(finding) == f"klp_new carries state 0x1 version 1; this site accepts >=2 ({POLICY_FILE}:8)"


# --- Changes ---

INTRODUCED = StateChange(1, None, 1)
KEPT = StateChange(1, 1, 1)
UPGRADED = StateChange(1, 1, 2)
DOWNGRADED = StateChange(1, 2, 1)
DROPPED = StateChange(1, 1, None)


@pytest.mark.parametrize(
    ("change", "reversal", "ways"),
    [
        (INTRODUCED, False, [Way.INTRODUCE]),
        (KEPT, False, []),
        (UPGRADED, False, [Way.UPGRADE]),
        (DOWNGRADED, False, [Way.DOWNGRADE]),
        (DROPPED, False, [Way.DROP]),
        (INTRODUCED, True, []),
        (KEPT, True, []),
        (UPGRADED, True, []),
        (DOWNGRADED, True, [Way.REVERSE]),
        (DROPPED, True, [Way.REVERSE]),
    ],
)
def test_a_change_is_denied_by_the_ruling_on_its_way_and_no_other(
    change: StateChange, reversal: bool, ways: list[Way]
) -> None:
    denied = []
    for way in Way:
        applied = policy(StateRule(1, denying(3).rule, rulings={way: denying(9)}))
        [finding] = site.change_findings(stack(), [change], applied, otherwise=kernel.COMPATIBLE, reversal=reversal)
        assert finding.state == 1
        if finding.decision is Decision.DENY:
            assert finding.rule.line == 9
            denied.append(way)
        else:
            assert finding.rule is kernel.COMPATIBLE
    assert denied == ways


def test_a_ruling_that_allows_is_the_reason_of_the_change() -> None:
    applied = policy(StateRule(1, denying(3).rule, rulings={Way.DROP: allowing(9)}))
    [finding] = site.change_findings(stack(), [DROPPED], applied, otherwise=site.NO_RULE)
    assert (finding.decision, finding.rule.line) == (Decision.ALLOW, 9)


def test_a_rule_on_one_state_is_not_about_another() -> None:
    dropped = [StateChange(1, 1, None), StateChange(2, 1, None)]
    findings = site.change_findings(stack(), dropped, policy(sticky(2)), otherwise=site.NO_RULE)
    assert [(each.state, each.decision) for each in findings] == [(1, Decision.ALLOW), (2, Decision.DENY)]


@pytest.mark.parametrize(
    ("change", "reversal", "message"),
    [
        (DROPPED, False, "the policy does not let an action take out state 0x1 version 1"),
        (DOWNGRADED, False, "the policy does not let an action downgrade state 0x1 from version 2 to 1"),
        (DROPPED, True, "the policy does not let an action take out state 0x1 version 1 by reversing the transition"),
    ],
)
def test_a_sticky_state_says_what_it_does_not_let_happen(change: StateChange, reversal: bool, message: str) -> None:
    [finding] = site.change_findings(stack(), [change], policy(sticky(1)), otherwise=site.NO_RULE, reversal=reversal)
    assert finding.message == message


# --- Unknown states ---


@pytest.mark.parametrize(
    ("readable", "unknown", "name", "code", "decision"),
    [
        (True, allowing(6), "there", "unknown-states", Decision.ALLOW),
        (True, denying(6), "there", "unknown-states", Decision.DENY),
        (False, allowing(6), "there", "states-unreadable", Decision.UNKNOWN),
        (False, denying(6), "there", "states-unreadable", Decision.UNKNOWN),
        (False, allowing(6), "klp_new", "unknown-states", Decision.ALLOW),
        (False, denying(6), "klp_new", "unknown-states", Decision.DENY),
    ],
)
def test_what_unknown_states_mean(readable: bool, unknown: Ruling, name: str, code: str, decision: Decision) -> None:
    where = stack(installed("there", None), readable=readable)
    [finding] = site.unknown_findings(where, [name], policy(unknown_states=unknown))
    assert (finding.code, finding.decision, finding.livepatch, finding.rule.line) == (code, decision, name, 6)


def test_no_unknown_states_no_findings() -> None:
    assert list(site.unknown_findings(stack(), [], policy(unknown_states=denying()))) == []
