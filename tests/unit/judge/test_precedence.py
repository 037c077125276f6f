# SPDX-License-Identifier: GPL-2.0-or-later
"""Which rules on livepatches never decide anything, and which only seem so."""

from __future__ import annotations

import time

import pytest

from klpd.judge.precedence import shadowed
from klpd.judge.rules import LivepatchRule, Match, OnTimeout, Permission
from klpd.model import Rule, RuleKind
from tests.builders import allowing, policy

ALL = Match(name="*")
SOME = Match(name="lp_*")
ONE = Match(name="lp-1", sha256="1" * 64)


def rule(
    match: Match,
    permission: Permission | None = Permission.ALLOW,
    *,
    timeout: float | None = None,
    on_timeout: OnTimeout | None = None,
    force: bool = False,
) -> LivepatchRule:
    return LivepatchRule(
        Rule(RuleKind.POLICY, "50.toml"),
        match,
        permission,
        timeout=timeout,
        on_timeout=on_timeout,
        force=allowing() if force else None,
    )


def numbered(*rules: LivepatchRule) -> tuple[LivepatchRule, ...]:
    return tuple(
        LivepatchRule(
            Rule(RuleKind.POLICY, "50.toml", line),
            each.match,
            each.permission,
            timeout=each.timeout,
            on_timeout=each.on_timeout,
            force=each.force,
        )
        for line, each in enumerate(rules, start=1)
    )


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ((rule(ONE), rule(SOME), rule(ALL)), {}),
        ((rule(SOME), rule(ONE)), {2: [1]}),
        ((rule(SOME, Permission.DENY), rule(ONE)), {2: [1]}),
        ((rule(SOME), rule(SOME, Permission.DENY)), {2: [1]}),
        ((rule(ALL), rule(Match(sha256="1" * 64))), {2: [1]}),
        ((rule(Match(sha256="1" * 64)), rule(ONE)), {2: [1]}),
        ((rule(Match(sha256="2" * 64)), rule(ONE)), {}),
        ((rule(Match(build_id="ab")), rule(ONE)), {}),
        ((rule(Match(replace=True)), rule(Match(name="a", replace=True))), {2: [1]}),
        ((rule(Match(replace=True)), rule(Match(name="a"))), {}),
        ((rule(Match(signer="a")), rule(Match(name="a", signer="a"))), {2: [1]}),
        ((rule(Match(signer="a")), rule(Match(name="a", signer="b"))), {}),
        # What each key is decided by is another question for each.
        ((rule(ALL, None, timeout=1), rule(SOME)), {}),
        ((rule(ALL), rule(SOME, None, timeout=1)), {}),
        ((rule(ALL), rule(SOME, timeout=1)), {}),
        ((rule(ALL, timeout=1), rule(SOME, timeout=2)), {2: [1]}),
        ((rule(ALL, None, timeout=1), rule(ALL), rule(SOME, timeout=2)), {3: [1, 2]}),
        ((rule(ALL, None, force=True), rule(SOME, None, force=True, on_timeout=OnTimeout.WAIT)), {}),
        ((rule(ALL, None, on_timeout=OnTimeout.WAIT), rule(SOME, None, on_timeout=OnTimeout.FORCE)), {2: [1]}),
        # Two that together match everything that a third does are not told of: that is not looked for.
        ((rule(Match(replace=True)), rule(Match(replace=False)), rule(Match(name="a"))), {}),
    ],
)
def test_a_rule_is_shadowed_where_each_of_its_keys_is_taken(
    rules: tuple[LivepatchRule, ...], found: dict[int, list[int]]
) -> None:
    some = policy(livepatches=numbered(*rules))
    assert {each.rule.line: [by.line for by in each.by] for each in shadowed(some)} == found


def test_many_rules_are_gone_through_in_a_while() -> None:
    many = policy(livepatches=numbered(*(rule(Match(name=f"lp_{number}")) for number in range(15_000))))
    began = time.process_time()
    assert list(shadowed(many)) == []
    assert time.process_time() - began < 20
