# SPDX-License-Identifier: GPL-2.0-or-later
"""Laws of the order of rules: one that is said never to decide can be taken away, and nothing changes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from klpd.judge.precedence import denied_force, shadowed
from klpd.judge.rules import LivepatchRule, Match, OnTimeout, Permission, Ruling
from klpd.judge.site import livepatch_findings
from klpd.model import Rule, RuleKind, Standing, Trust
from tests.builders import allowing, denying, livepatch, policy

if TYPE_CHECKING:
    from klpd.judge.rules import Policy
    from klpd.model import Livepatch, Signature

DIGESTS: Final = ("1" * 64, "2" * 64)
BUILD_IDS: Final = ("a1", "a2")
LIVEPATCHES: Final = [
    livepatch(name, digest=digest, build_id=build_id, replace=replaces)
    for name, digest, build_id, replaces in product(
        ("a", "b", "ab", "a_b", "a-b"), DIGESTS, BUILD_IDS, (True, False, None)
    )
]

matches: st.SearchStrategy[Match] = st.builds(
    Match,
    name=st.none() | st.sampled_from(["*", "a*", "?", "[ab]", "[!a]*", "a-*", "ab", "*b", "a[-_]b"]),
    sha256=st.none() | st.none() | st.sampled_from(DIGESTS),
    build_id=st.none() | st.none() | st.sampled_from(BUILD_IDS),
    replace=st.none() | st.none() | st.booleans(),
    signer=st.none() | st.none() | st.just("somebody"),
)


@st.composite
def rule_lists(draw: st.DrawFn) -> tuple[LivepatchRule, ...]:
    rules = []
    for line in range(1, draw(st.integers(0, 5)) + 1):
        rule = Rule(RuleKind.POLICY, "50.toml", line)
        force = draw(st.none() | st.sampled_from(Permission))
        rules.append(
            LivepatchRule(
                rule,
                draw(matches),
                draw(st.none() | st.sampled_from(Permission)),
                timeout=draw(st.none() | st.sampled_from([1.0, 2.0])),
                on_timeout=draw(st.none() | st.sampled_from(OnTimeout)),
                force=None if force is None else Ruling(force, rule),
            )
        )
    return tuple(rules)


def somebody(signature: Signature | None, /) -> Trust:
    return Trust(Standing.TRUSTED, "somebody", "a certificate")


def decided(given: Policy, file: Livepatch) -> tuple[object, ...]:
    verdicts = [(each.decision, each.rule) for each in livepatch_findings(file, given)]
    return (*verdicts, given.transition_of(file))


@settings(max_examples=200)
@given(rule_lists(), st.booleans())
def test_a_rule_that_never_decides_can_be_taken_away(rules: tuple[LivepatchRule, ...], signed: bool) -> None:
    before = policy(livepatches=rules)
    before = replace(before, verify=somebody) if signed else before
    useless = {each.rule for each in shadowed(before)}
    after = replace(before, livepatches=tuple(each for each in rules if each.rule not in useless))
    for file in LIVEPATCHES:
        assert decided(before, file) == decided(after, file)


@settings(max_examples=200)
@given(rule_lists(), st.booleans(), matches)
def test_where_force_is_said_to_be_denied_it_is(rules: tuple[LivepatchRule, ...], general: bool, match: Match) -> None:
    some = policy(livepatches=rules, force=allowing() if general else denying())
    denial = denied_force(some, match)
    if denial is not None:
        matched = [each for each in LIVEPATCHES if some.matches(LivepatchRule(denial.rule, match, None), each)]
        assert all(some.transition_of(each).force.permission is Permission.DENY for each in matched)
