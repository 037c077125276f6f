# SPDX-License-Identifier: GPL-2.0-or-later
"""The policy files that come with klpd, and its manual page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from klpd.judge.rules import Mode, Permission, Way
from klpd.judge.verdict import judge
from klpd.model import Decision, Livepatch, Load, Stack
from klpd.policy import check_file
from klpd.policy.read import Checked, read_files

if TYPE_CHECKING:
    from tests.unit.policy.site import Site

TOP: Final = Path(__file__).parents[3]
SHIPPED: Final = TOP / "policy" / "10-klpd.toml"
EXAMPLES: Final = sorted((TOP / "policy" / "examples").glob("*.toml"))
PAGE: Final = TOP / "docs" / "klpd-policy.5.md"
FILES: Final = [SHIPPED, *EXAMPLES, *(TOP / "tests" / "demo").glob("*.toml")]


def example(name: str) -> Path:
    return TOP / "policy" / "examples" / name


def livepatch(name: str) -> Livepatch:
    """As kpatch-build makes them."""
    return Livepatch(name=name, digest="0" * 64, size=1, replace=None, states=(), objects=None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_checks(path: Path) -> None:
    assert check_file(path, owner=None) == Checked()


def test_the_shipped_policy_says_what_holds_without_it_but_by_lines_that_can_be_read() -> None:
    shipped, builtin = read_files([SHIPPED], owner=None), read_files([], owner=None)
    assert (shipped.mode, shipped.default.permission, shipped.unknown_states.permission) == (
        builtin.mode,
        builtin.default.permission,
        builtin.unknown_states.permission,
    )
    assert (shipped.hold_timeout, shipped.transition.timeout, shipped.transition.on_timeout) == (
        builtin.hold_timeout,
        builtin.transition.timeout,
        builtin.transition.on_timeout,
    )
    assert shipped.ftrace_off is builtin.ftrace_off
    ours = (shipped.default, shipped.unknown_states, shipped.unpatched_gap, shipped.transition.force)
    theirs = (builtin.default, builtin.unknown_states, builtin.unpatched_gap, builtin.transition.force)
    assert [each.permission for each in ours] == [each.permission for each in theirs]
    assert {each.rule.place for each in ours} == {str(SHIPPED)}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_counts_after_the_shipped_policy(path: Path) -> None:
    assert path.name > SHIPPED.name


def test_audit_only_audits() -> None:
    assert read_files([SHIPPED, example("90-audit-only.toml")], owner=None).mode is Mode.AUDIT


def test_a_vendor_stream_lets_in_what_has_its_name_but_not_what_was_withdrawn() -> None:
    policy = read_files([SHIPPED, example("50-vendor-stream.toml")], owner=None)
    withdrawn, stream = policy.livepatches
    assert (withdrawn.permission, stream.permission) == (Permission.DENY, Permission.ALLOW)
    assert withdrawn.match(livepatch("kpatch_5_14_0_362_8_1_1_2"))
    assert stream.match(livepatch("kpatch_5_14_0_362_8_1_1_3"))
    assert not stream.match(livepatch("livepatch_1"))
    assert judge(Stack(), Load(livepatch("kpatch_5_14_0_362_8_1_1_3")), policy).decision is Decision.ALLOW


def test_a_sticky_state_stays_once_its_transition_is_complete() -> None:
    (state,) = read_files([example("50-sticky-state.toml")], owner=None).states.values()
    assert {way: each.permission for way, each in state.rulings.items()} == {
        Way.DROP: Permission.DENY,
        Way.DOWNGRADE: Permission.DENY,
        Way.REVERSE: Permission.ALLOW,
    }


def test_strict_lets_in_nothing_by_its_name_alone() -> None:
    rules = read_files([example("50-strict-sha256.toml")], owner=None).livepatches
    assert rules
    assert all(each.match.sha256 or each.match.build_id for each in rules)


def known_keys(site: Site) -> set[str]:
    """The keys of the language, by what is said to one that there is not."""
    complaints = site.complaints(
        "zzz = 1\n[policy]\nzzz = 1\n[transition]\nzzz = 1\n[[state]]\nzzz = 1\n"
    ) + site.complaints("[[livepatch]]\nzzz = 1\nmatch = { zzz = 1 }")
    lists = [each.split("known are ")[1] for each in complaints if "known are " in each]
    assert len(lists) == 6
    return {key for each in lists for key in each.split(", ")}


def test_the_manual_page_has_every_key_and_no_other(site: Site) -> None:
    documented = set(re.findall(r"^\*\*([a-z0-9-]+)\*\* =", PAGE.read_text(), re.MULTILINE))
    tables = set(re.findall(r"^## [\\\[]+([a-z]+)", PAGE.read_text(), re.MULTILINE))
    assert documented | tables == known_keys(site)


def test_what_the_manual_page_shows_checks(site: Site) -> None:
    shown = re.findall(r"(?:^    .*\n|^\n(?=    ))+", PAGE.read_text(), re.MULTILINE)
    policies = [
        "\n".join(line[4:] for line in each.splitlines()) for each in shown if "[[" in each or "[policy]" in each
    ]
    assert policies
    for each in policies:
        assert site.complaints(each.replace("/etc/klpd/certificates", str(site.root))) == []
