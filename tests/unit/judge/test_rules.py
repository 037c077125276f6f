# SPDX-License-Identifier: GPL-2.0-or-later
"""A policy's values: version ranges, what a rule matches, the way a change goes, stickiness."""

from __future__ import annotations

import dataclasses

import pytest

from klpd.judge.rules import (
    STICKY_WAYS,
    Comparison,
    LivepatchRule,
    Match,
    Mode,
    OnTimeout,
    Permission,
    StateRule,
    TransitionRules,
    VersionRange,
    Way,
    builtin_policy,
)
from klpd.model import ChangeKind, Decision, Installed, RuleKind
from tests.builders import allowing, denying, livepatch, policy, sticky

# --- Version ranges ---


@pytest.mark.parametrize(
    ("comparison", "accepted"),
    [
        (Comparison.LESS, [1]),
        (Comparison.LESS_EQUAL, [1, 2]),
        (Comparison.EQUAL, [2]),
        (Comparison.NOT_EQUAL, [1, 3]),
        (Comparison.GREATER_EQUAL, [2, 3]),
        (Comparison.GREATER, [3]),
    ],
)
def test_what_a_bound_of_2_accepts(comparison: Comparison, accepted: list[int]) -> None:
    bound = VersionRange(((comparison, 2),))
    assert [version for version in (1, 2, 3) if version in bound] == accepted


def test_every_bound_of_a_range_must_hold() -> None:
    both = VersionRange(((Comparison.GREATER_EQUAL, 2), (Comparison.LESS, 5), (Comparison.NOT_EQUAL, 3)))
    assert [version for version in range(7) if version in both] == [2, 4]
    assert str(both) == ">=2, <5, !=3"


# --- Matches ---

_LIVEPATCH = livepatch("kpatch_5_10", replace=True, digest="d" * 64, build_id="b" * 40)


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        (Match(), True),
        (Match(name="kpatch_5_10"), True),
        (Match(name="kpatch-5-10"), True),
        (Match(name="kpatch_*"), True),
        (Match(name="kpatch-*"), True),
        (Match(name="kpatch_?_10"), True),
        (Match(name="kpatch-[0-9]-[0-9]*"), True),
        (Match(name="kpatch_[!0-4]_10"), True),
        (Match(name="kpatch_[!4-6]_10"), False),
        (Match(name="kpatch_[6-9]_10"), False),
        (Match(name="kpatch"), False),
        (Match(name="KPATCH_*"), False),
        (Match(name="livepatch_*"), False),
        (Match(sha256="d" * 64), True),
        (Match(sha256="e" * 64), False),
        (Match(build_id="b" * 40), True),
        (Match(build_id="c" * 40), False),
        (Match(replace=True), True),
        (Match(replace=False), False),
        (Match(name="kpatch_*", sha256="d" * 64, build_id="b" * 40, replace=True), True),
        (Match(name="kpatch_*", sha256="d" * 64, build_id="b" * 40, replace=False), False),
        (Match(name="kpatch_*", sha256="e" * 64), False),
    ],
    ids=str,
)
def test_a_rule_is_about_the_livepatches_that_meet_its_every_condition(match: Match, matches: bool) -> None:
    assert match(_LIVEPATCH) is matches


@pytest.mark.parametrize("wanted", [True, False])
def test_a_livepatch_of_which_is_unknown_whether_it_replaces_meets_neither_condition(wanted: bool) -> None:
    assert not Match(replace=wanted)(livepatch(replace=None))


# --- Ways ---


@pytest.mark.parametrize(
    ("kind", "forwards", "by_reversal"),
    [
        (ChangeKind.INTRODUCE, Way.INTRODUCE, None),
        (ChangeKind.KEEP, None, None),
        (ChangeKind.UPGRADE, Way.UPGRADE, None),
        (ChangeKind.DOWNGRADE, Way.DOWNGRADE, Way.REVERSE),
        (ChangeKind.DROP, Way.DROP, Way.REVERSE),
    ],
)
def test_the_way_that_a_change_goes(kind: ChangeKind, forwards: Way | None, by_reversal: Way | None) -> None:
    assert Way.of(kind, reversal=False) is forwards
    assert Way.of(kind, reversal=True) is by_reversal


# --- Rules on states ---


def test_a_state_is_sticky_if_nothing_may_take_it_out_or_back() -> None:
    assert sticky(1).sticky
    assert set(STICKY_WAYS) == {Way.DROP, Way.DOWNGRADE, Way.REVERSE}


@pytest.mark.parametrize("way", STICKY_WAYS)
def test_a_state_that_can_go_in_some_way_is_not_sticky(way: Way) -> None:
    but_one = {each: denying() for each in STICKY_WAYS if each is not way}
    assert not StateRule(1, denying().rule, rulings=but_one).sticky
    assert not StateRule(1, denying().rule, rulings={**but_one, way: allowing()}).sticky


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (None, "0x1001"),
        (StateRule(0x1001, denying().rule), "0x1001"),
        (StateRule(0x1001, denying().rule, name="console"), "0x1001 (console)"),
        (StateRule(0x1002, denying().rule, name="console"), "0x1001"),
    ],
)
def test_a_state_is_called_by_its_id_and_the_name_that_the_site_gives_it(rule: StateRule | None, name: str) -> None:
    assert policy(*[] if rule is None else [rule]).state_name(0x1001) == name


# --- Rules on transitions ---

GENERAL = TransitionRules(60.0, OnTimeout.REVERSE, denying(1))
SLOW = LivepatchRule(denying(2).rule, Match(name="klp_*"), None, timeout=600.0)
PATIENT = LivepatchRule(
    denying(3).rule, Match(name="klp_new"), Permission.ALLOW, timeout=9.0, on_timeout=OnTimeout.WAIT
)
FORCED = LivepatchRule(denying(4).rule, Match(name="klp_new"), None, on_timeout=OnTimeout.FORCE, force=allowing(5))
OTHER = LivepatchRule(denying(6).rule, Match(name="other"), None, timeout=1.0, force=allowing(7))


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((), GENERAL),
        ((OTHER,), GENERAL),
        ((SLOW,), TransitionRules(600.0, OnTimeout.REVERSE, denying(1))),
        ((SLOW, PATIENT), TransitionRules(600.0, OnTimeout.WAIT, denying(1))),
        ((PATIENT, SLOW), TransitionRules(9.0, OnTimeout.WAIT, denying(1))),
        ((FORCED, PATIENT), TransitionRules(9.0, OnTimeout.FORCE, allowing(5))),
        ((OTHER, SLOW, FORCED), TransitionRules(600.0, OnTimeout.FORCE, allowing(5))),
    ],
    ids=[
        "none: what holds in general",
        "none that matches",
        "one key",
        "a key that the first does not set",
        "the first that sets a key",
        "whether it decides on the livepatch or not",
        "each key on its own",
    ],
)
def test_of_a_transition_the_first_rule_that_matches_and_sets_a_key_counts(
    rules: tuple[LivepatchRule, ...], expected: TransitionRules
) -> None:
    site = dataclasses.replace(policy(livepatches=rules), transition=GENERAL)
    assert site.transition_of(livepatch()) == expected
    assert site.transition_of(Installed.expected(livepatch())) == expected


# --- Policies ---


@pytest.mark.parametrize(
    ("permission", "decision"), [(Permission.ALLOW, Decision.ALLOW), (Permission.DENY, Decision.DENY)]
)
def test_a_permission_is_a_decision(permission: Permission, decision: Decision) -> None:
    assert permission.decision is decision


def test_the_built_in_policy_enforces_that_no_livepatch_comes_in_and_says_why() -> None:
    built_in = builtin_policy("no policy file could be read")
    assert built_in.mode is Mode.ENFORCE
    for ruling in (built_in.default, built_in.unknown_states):
        assert ruling.permission is Permission.DENY
        assert ruling.rule.kind is RuleKind.BUILTIN
        assert "no policy file could be read" in str(ruling.rule)
