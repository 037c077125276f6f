# SPDX-License-Identifier: GPL-2.0-or-later
"""What anybody may write to a livepatch's attributes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd.judge.permissions import (
    never_objects,
    never_objects_to,
    never_objects_to_force,
    permits,
    write_permissions,
)
from klpd.judge.rules import STICKY_WAYS, LivepatchRule, Match, StateRule, Way
from tests.builders import allowing, declares, denying, installed, policy, stack, sticky

if TYPE_CHECKING:
    from klpd.judge.rules import Policy, Ruling
    from klpd.model import Installed

STACK = stack(installed("a", {1: 1}), installed("b", {2: 1}))


def _ruling(way: Way, ruling: Ruling) -> StateRule:
    return StateRule(1, ruling.rule, rulings={way: ruling})


def _free(state_id: int) -> StateRule:
    return StateRule(state_id, allowing().rule, rulings=dict.fromkeys(STICKY_WAYS, allowing()))


def _enabled(site: Policy) -> dict[str, bool]:
    return {each.livepatch: permits(each.enabled) for each in write_permissions(STACK, site)}


def test_each_livepatch_has_its_own() -> None:
    assert _enabled(policy(sticky(1))) == {"a": False, "b": True}


def test_a_state_that_stays_with_another_livepatch_is_no_obstacle() -> None:
    both = stack(installed("a", {1: 1}), installed("b", {1: 1}))
    assert all(permits(each.enabled) for each in write_permissions(both, policy(sticky(1))))


@pytest.mark.parametrize(("way", "permitted"), [(Way.DROP, True), (Way.REVERSE, False)])
def test_in_transition_a_write_to_enabled_is_a_reversal(way: Way, permitted: bool) -> None:
    moving = stack(installed("a", {1: 1}, transition=True))
    (permissions,) = write_permissions(moving, policy(StateRule(1, denying().rule, rulings={way: denying()})))
    assert permissions.enabled.action == "reverse"
    assert permits(permissions.enabled) is permitted


def test_what_the_kernel_refuses_itself_is_left_to_it() -> None:
    moving = stack(installed("a"), installed("b", transition=True))
    permissions = {each.livepatch: each for each in write_permissions(moving, policy())}
    assert "transition-running" in [each.code for each in permissions["a"].enabled.findings]
    assert permits(permissions["a"].enabled)
    assert permits(permissions["a"].force)


def test_forcing_is_permitted_by_a_rule_only() -> None:
    moving = stack(installed("a", transition=True))
    for site, permitted in ((policy(), True), (policy(force=denying()), False)):
        (permissions,) = write_permissions(moving, site)
        assert permits(permissions.force) is permitted


@pytest.mark.parametrize(
    ("site", "never"),
    [
        (policy(), True),
        (policy(default=denying(), force=denying()), True),
        (policy(StateRule(1, allowing().rule, rulings={Way.DROP: allowing()})), True),
        (policy(sticky(1)), False),
        (policy(unknown_states=denying()), False),
    ],
    ids=["allows all", "denies loads", "allows by name", "sticky state", "unknown states"],
)
def test_some_policies_object_to_no_disabling_at_all(site: Policy, never: bool) -> None:
    assert never_objects(site) is never


@pytest.mark.parametrize(
    ("livepatch", "site", "never"),
    [
        (installed("a", {1: 1}, restores=True), policy(), True),
        (installed("a", {1: 1}, restores=True), policy(sticky(2), unknown_states=denying()), True),
        (installed("a", {1: 1}, restores=True, replace=True), policy(sticky(2)), False),
        (installed("a", {1: 1}, restores=True, replace=None), policy(_ruling(Way.REVERSE, denying())), False),
        (installed("a", {2: 1}, restores=True, replace=None), policy(_ruling(Way.REVERSE, denying())), False),
        (installed("a", {1: 1}, restores=True), policy(sticky(1)), False),
        (installed("a", {1: 1}, restores=True), policy(_ruling(Way.DOWNGRADE, denying())), False),
        (installed("a", {1: 1}, restores=True), policy(_ruling(Way.INTRODUCE, denying())), True),
        (installed("a", {1: 1}, restores=False), policy(), False),
        (installed("a", {1: 1}, restores=False), policy(_ruling(Way.REVERSE, allowing())), True),
        (installed("a"), policy(sticky(1)), True),
        (replace(installed("a"), states=None), policy(), False),
        (installed("a", declared=declares({1: 1}, sticky=True, restores=True)), policy(), False),
        (installed("a", declared=declares({1: 1}, sticky=True, restores=True)), policy(_free(1)), True),
    ],
    ids=[
        "no rule",
        "a rule on another's state",
        "it may yet replace another whose state is sticky",
        "its state must not be reversed",
        "nor another's, which it may replace",
        "its state is sticky",
        "its state must not go down",
        "coming is not going",
        "an older version may have to be restored",
        "a rule has it reversed",
        "no states",
        "nobody knows its states",
        "its author has it stay",
        "its author does, and the site does not",
    ],
)
def test_some_livepatches_may_go_whatever_the_stack(livepatch: Installed, site: Policy, never: bool) -> None:
    assert never_objects_to(livepatch, site) is never


def test_a_state_that_another_makes_sticky_depends_on_the_stack() -> None:
    another = declares({1: 1}, sticky=True)
    assert not never_objects_to(installed("a", {1: 1}, restores=True), policy(), [another])
    assert never_objects_to(installed("a", {2: 1}, restores=True), policy(), [another])


@pytest.mark.parametrize(
    ("general", "own", "never"),
    [
        (allowing(), None, True),
        (denying(), None, False),
        (allowing(), allowing(), True),
        (allowing(), denying(), False),
        (denying(), allowing(), False),
    ],
)
def test_forcing_is_free_only_if_it_is_for_every_livepatch(general: Ruling, own: Ruling | None, never: bool) -> None:
    rule = LivepatchRule(denying().rule, Match(name="a"), None, force=own)
    assert never_objects_to_force(policy(force=general, livepatches=(rule,))) is never
