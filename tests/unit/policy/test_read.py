# SPDX-License-Identifier: GPL-2.0-or-later
"""What policy files mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klpd.judge.rules import Comparison, Match, Mode, OnTimeout, Permission, VersionRange, Way
from klpd.judge.site import livepatch_findings
from klpd.model import Decision, Rule, RuleKind
from tests.builders import livepatch
from tests.unit.policy.site import USR

if TYPE_CHECKING:
    from tests.unit.policy.site import Site

ALLOW = Permission.ALLOW
DENY = Permission.DENY


def rule(site: Site, line: int, name: str = "10-test.toml") -> Rule:
    return Rule(RuleKind.POLICY, str(site.path(name)), line)


def test_without_files_the_defaults_hold(site: Site) -> None:
    policy = site.policy()
    assert policy.mode is Mode.ENFORCE
    assert policy.default.permission is DENY
    assert str(policy.default.rule) == 'built-in: default = "deny"'
    assert policy.unknown_states.permission is DENY
    assert str(policy.unknown_states.rule) == 'built-in: unknown-states = "deny"'
    assert policy.unpatched_gap.permission is DENY
    assert str(policy.unpatched_gap.rule) == 'built-in: allow-unpatched-gap = "deny"'
    assert policy.transition.force.permission is DENY
    assert str(policy.transition.force.rule) == 'built-in: force = "deny"'
    assert (policy.hold_timeout, policy.transition.timeout, policy.transition.on_timeout) == (5, 300, OnTimeout.REVERSE)
    assert (policy.directories, policy.states, policy.livepatches, policy.files) == ((), {}, (), ())
    assert policy.ftrace_off is DENY


def test_a_file_without_keys_changes_nothing_but_is_one_of_the_files(site: Site) -> None:
    policy = site.policy("# nothing yet\n")
    assert policy.default.rule.kind is RuleKind.BUILTIN
    assert policy.files == (str(site.path("10-test.toml")),)


def test_every_setting_is_read(site: Site) -> None:
    policy = site.policy(
        """
[policy]
mode = "audit"
default = "allow"
unknown-states = "allow"
hold-timeout = "500ms"
directories = ["/opt/livepatches", "/srv/klp"]
allow-unpatched-gap = "allow"
ftrace-off = "allow"

[transition]
timeout = "1h 30min"
on-timeout = "wait"
force = "allow"
"""
    )
    assert policy.mode is Mode.AUDIT
    assert policy.default.permission is ALLOW
    assert policy.default.rule == rule(site, 4)
    assert policy.unknown_states.permission is ALLOW
    assert policy.unknown_states.rule == rule(site, 5)
    assert policy.hold_timeout == 0.5
    assert policy.directories == ("/opt/livepatches", "/srv/klp")
    assert (policy.transition.timeout, policy.transition.on_timeout) == (5400, OnTimeout.WAIT)
    assert policy.transition.force.permission is ALLOW
    assert policy.transition.force.rule == rule(site, 14)
    assert policy.ftrace_off is ALLOW
    assert policy.unpatched_gap.permission is ALLOW
    assert policy.unpatched_gap.rule == rule(site, 8)


def test_of_several_files_the_last_that_sets_a_key_counts(site: Site) -> None:
    policy = site.policy(
        '[policy]\nmode = "audit"\ndefault = "allow"\ndirectories = ["/a", "/b"]\n[transition]\ntimeout = "1s"',
        '[policy]\ndefault = "deny"\n[transition]\non-timeout = "wait"',
        '[policy]\nunknown-states = "allow"\ndirectories = ["/c"]',
    )
    assert policy.mode is Mode.AUDIT
    assert policy.default.permission is DENY
    assert policy.default.rule == rule(site, 2, "20-test.toml")
    assert policy.directories == ("/c",)
    assert (policy.transition.timeout, policy.transition.on_timeout) == (1, OnTimeout.WAIT)
    assert [each.rsplit("/", 1)[1] for each in policy.files] == ["10-test.toml", "20-test.toml", "30-test.toml"]


def test_the_order_of_names_goes_over_that_of_directories(site: Site) -> None:
    site.put("90-vendor.toml", '[policy]\nmode = "enforce"', directory=USR)
    assert site.policy('[policy]\nmode = "audit"').mode is Mode.ENFORCE


def test_sticky_denies_drop_downgrade_and_reverse_by_its_own_line(site: Site) -> None:
    state = site.policy('\n[[state]]\nid = 0x1001\nname = "locks"\nsticky = true').states[0x1001]
    assert (state.id, state.name, state.rule) == (0x1001, "locks", rule(site, 2))
    assert state.sticky
    assert set(state.rulings) == {Way.DROP, Way.DOWNGRADE, Way.REVERSE}
    assert {each.rule for each in state.rulings.values()} == {rule(site, 5)}


def test_not_sticky_allows_these_three(site: Site) -> None:
    state = site.policy("[[state]]\nid = 1\nsticky = false").states[1]
    assert {way: each.permission for way, each in state.rulings.items()} == {
        Way.DROP: ALLOW,
        Way.DOWNGRADE: ALLOW,
        Way.REVERSE: ALLOW,
    }


@pytest.mark.parametrize("keys", ['sticky = true\nreverse = "allow"', 'reverse = "allow"\nsticky = true'])
def test_a_key_of_its_own_wins_over_the_shorthand_in_the_same_table(site: Site, keys: str) -> None:
    rulings = site.policy(f"[[state]]\nid = 1\n{keys}").states[1].rulings
    assert rulings[Way.REVERSE].permission is ALLOW
    assert rulings[Way.DROP].permission is DENY
    assert rulings[Way.REVERSE].rule != rulings[Way.DROP].rule


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("permission", Permission)
def test_each_way_can_be_ruled_on(site: Site, way: Way, permission: Permission) -> None:
    ruling = site.policy(f'[[state]]\nid = 1\n{way} = "{permission}"').states[1].rulings[way]
    assert (ruling.permission, ruling.rule) == (permission, rule(site, 3))


def test_a_state_without_rules_has_a_name_and_no_more(site: Site) -> None:
    state = site.policy('[[state]]\nid = 1\nname = "locks"').states[1]
    assert (state.rulings, state.versions, state.versions_rule) == ({}, None, None)


@pytest.mark.parametrize(
    ("versions", "bounds"),
    [
        ('">=2, <5"', ((Comparison.GREATER_EQUAL, 2), (Comparison.LESS, 5))),
        ("3", ((Comparison.EQUAL, 3),)),
    ],
)
def test_versions_are_a_range_or_a_number(
    site: Site, versions: str, bounds: tuple[tuple[Comparison, int], ...]
) -> None:
    state = site.policy(f"[[state]]\nid = 1\nversions = {versions}").states[1]
    assert (state.versions, state.versions_rule) == (VersionRange(bounds), rule(site, 3))


def test_a_later_file_changes_a_state_key_by_key(site: Site) -> None:
    state = site.policy(
        '[[state]]\nid = 1\nname = "locks"\nsticky = true\nversions = 2\n',
        '[[state]]\nid = 0x1\ndrop = "allow"\nintroduce = "deny"\n',
        '[[state]]\nid = 1\nname = "new locks"\nversions = ">2"\n',
    ).states[1]
    assert {way: (each.permission, each.rule) for way, each in state.rulings.items()} == {
        Way.DROP: (ALLOW, rule(site, 3, "20-test.toml")),
        Way.INTRODUCE: (DENY, rule(site, 4, "20-test.toml")),
        Way.DOWNGRADE: (DENY, rule(site, 4)),
        Way.REVERSE: (DENY, rule(site, 4)),
    }
    assert (state.name, str(state.versions), state.versions_rule) == ("new locks", ">2", rule(site, 4, "30-test.toml"))


def test_a_later_file_keeps_what_it_does_not_speak_of(site: Site) -> None:
    state = site.policy('[[state]]\nid = 1\nname = "locks"\nversions = 2\n', "[[state]]\nid = 1\nsticky = true").states[
        1
    ]
    assert (state.name, str(state.versions), state.versions_rule) == ("locks", "==2", rule(site, 4))


def test_the_shorthand_of_a_later_file_wins_over_a_key_of_an_earlier_one(site: Site) -> None:
    state = site.policy('[[state]]\nid = 1\ndrop = "allow"', "[[state]]\nid = 1\nsticky = true").states[1]
    assert state.sticky


def test_livepatch_rules_of_later_files_are_asked_first_and_in_a_file_by_lines(site: Site) -> None:
    policy = site.policy(
        """[[livepatch]]
match = { name = "a" }
verdict = "allow"
[[livepatch]]
match = { name = "b" }
verdict = "deny"
reason = "withdrawn"
""",
        '[[livepatch]]\nverdict = "allow"\n[livepatch.match]\nname = "c"\n',
    )
    found = [(each.match.name, each.permission, each.reason, each.rule) for each in policy.livepatches]
    assert found == [
        ("c", ALLOW, None, rule(site, 1, "20-test.toml")),
        ("a", ALLOW, None, rule(site, 1)),
        ("b", DENY, "withdrawn", rule(site, 4)),
    ]


def test_the_site_has_the_last_word_on_verdicts_and_on_transitions(site: Site) -> None:
    vendor = 'match = { name = "fld_*" }\nverdict = "allow"\ntimeout = "1s"\non-timeout = "wait"\nforce = "allow"'
    mine = 'match = { name = "fld_lp1" }\nverdict = "deny"\ntimeout = "1h"\non-timeout = "reverse"\nforce = "deny"'
    site.put("20-vendor.toml", f"[[livepatch]]\n{vendor}", USR)
    site.put("50-site.toml", f"[[livepatch]]\n{mine}")
    policy = site.policy()
    denied, allowed = livepatch("fld_lp1"), livepatch("fld_lp2")
    assert [each.decision for each in livepatch_findings(denied, policy)] == [Decision.DENY]
    assert [each.decision for each in livepatch_findings(allowed, policy)] == [Decision.ALLOW]
    transition = policy.transition_of(denied)
    assert (transition.timeout, transition.on_timeout, transition.force.permission) == (3600, OnTimeout.REVERSE, DENY)
    transition = policy.transition_of(allowed)
    assert (transition.timeout, transition.on_timeout, transition.force.permission) == (1, OnTimeout.WAIT, ALLOW)


def test_a_livepatch_rule_may_be_about_transitions_only(site: Site) -> None:
    (found,) = site.policy(
        """[[livepatch]]
match = { name = "a" }
timeout = "1h"
on-timeout = "force"
force = "allow"
"""
    ).livepatches
    assert (found.permission, found.timeout, found.on_timeout) == (None, 3600, OnTimeout.FORCE)
    assert found.force is not None
    assert (found.force.permission, found.force.rule) == (ALLOW, rule(site, 5))


def test_a_livepatch_rule_may_decide_and_say_something_of_transitions(site: Site) -> None:
    (found,) = site.policy('[[livepatch]]\nmatch = { name = "a" }\nverdict = "allow"\ntimeout = "1s"').livepatches
    assert (found.permission, found.timeout, found.on_timeout, found.force) == (ALLOW, 1, None, None)


def test_every_condition_is_read(site: Site) -> None:
    digest = "Ab" * 32
    (found,) = site.policy(
        f'[[livepatch]]\nmatch = {{ name = "k-*", sha256 = "{digest}", build-id = "1F", replace = false }}\n'
        'verdict = "allow"'
    ).livepatches
    assert found.match == Match(name="k-*", sha256=digest.lower(), build_id="1f", replace=False)


def test_a_policy_that_does_not_check_is_not_taken_at_all(site: Site) -> None:
    site.put("10-test.toml", '[policy]\nmode = "audit"')
    path = site.put("20-test.toml", "[policy]\nmode = 1\ndefault = 2")
    error = site.refusal()
    assert (error.file, error.line, error.column) == (str(path), 2, 8)
    assert error.message == "mode: expected a string, found an integer"
    assert [each.line for each in error.others] == [3]
