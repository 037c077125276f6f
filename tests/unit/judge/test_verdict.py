# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict: all rules on one action put together, and what it stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klpd.judge.rules import LivepatchRule, Match, Mode, Permission, StateRule, Way, builtin_policy
from klpd.judge.verdict import judge, obstructs, state_changes
from klpd.model import ChangeKind, Decision, Disable, Force, Leftover, Load, Remove, Reverse, State, StateChange
from tests.builders import allowing, denying, installed, livepatch, policy, stack, sticky

if TYPE_CHECKING:
    from klpd.judge.rules import Policy
    from klpd.model import Action, Stack, Verdict

EMPTY = stack()
OLD = Leftover("old", removable=True)


def _denials(verdict: Verdict) -> list[str]:
    return [each.code for each in verdict.findings if each.decision is Decision.DENY]


@pytest.mark.parametrize(
    ("action", "word", "name"),
    [
        (Load(livepatch("new")), "load", "new"),
        (Disable("a"), "disable", "a"),
        (Reverse("a"), "reverse", "a"),
        (Force("a"), "force", "a"),
        (Remove("old"), "remove", "old"),
    ],
    ids=repr,
)
def test_a_verdict_names_the_action_and_its_livepatch(action: Action, word: str, name: str) -> None:
    verdict = judge(EMPTY, action, policy())
    assert (verdict.action, verdict.livepatch) == (word, name)


# --- Which rules have a word on which action ---

ONE = stack(installed("a", {1: 1}))
ONE_LOADING = stack(installed("a", {1: 1}, transition=True))
ONE_GOING = stack(installed("a", {1: 1}, transition=True, enabled=False))
NO_LIVEPATCH = policy(default=denying())
NO_UNKNOWN = policy(unknown_states=denying())


@pytest.mark.parametrize(
    ("where", "action", "site", "denials"),
    [
        # loading
        (EMPTY, Load(livepatch("new", {1: 1})), policy(), []),
        (EMPTY, Load(livepatch("new")), NO_LIVEPATCH, ["default"]),
        (EMPTY, Load(livepatch("new")), builtin_policy("none"), ["default"]),
        (EMPTY, Load(livepatch("new", None)), NO_UNKNOWN, ["unknown-states"]),
        (stack(installed("a", None)), Load(livepatch("new")), NO_UNKNOWN, ["unknown-states"]),
        (ONE, Load(livepatch("new", {1: 2})), NO_UNKNOWN, []),
        (ONE, Load(livepatch("new", {1: 0})), policy(), ["state-downgrade"]),
        (ONE, Load(livepatch("new")), policy(sticky(1)), ["state-missing", "state-change"]),
        (ONE, Load(livepatch("new", None)), policy(sticky(1)), ["state-change"]),
        (ONE, Load(livepatch("new", None, replace=None)), policy(sticky(1)), ["state-change"]),
        (ONE, Load(livepatch("new", None, replace=False)), policy(sticky(1)), []),
        (ONE, Load(livepatch("new", {1: 2})), policy(sticky(1)), []),
        # disabling: whether a livepatch may come has no bearing on whether it may go
        (ONE, Disable("a"), policy(), []),
        (ONE, Disable("a"), NO_LIVEPATCH, []),
        (ONE, Disable("a"), policy(sticky(1)), ["state-change"]),
        (ONE, Disable("nobody"), policy(sticky(1)), ["not-installed"]),
        (stack(installed("a", None)), Disable("a"), NO_UNKNOWN, ["unknown-states"]),
        (stack(installed("a", None), installed("b", {1: 1})), Disable("b"), NO_UNKNOWN, []),
        # reversing
        (ONE_LOADING, Reverse("a"), policy(), []),
        (ONE_LOADING, Reverse("a"), policy(sticky(1)), ["state-change"]),
        (ONE_GOING, Reverse("a"), policy(sticky(1)), []),
        (ONE, Reverse("a"), policy(), ["no-transition"]),
        (stack(installed("a", None, transition=True)), Reverse("a"), NO_UNKNOWN, ["unknown-states"]),
        (stack(installed("a", None), installed("b", replace=False, transition=True)), Reverse("b"), NO_UNKNOWN, []),
        # removing: nothing is in force any more
        (stack(leftovers=(OLD,)), Remove("old"), policy(default=denying(), unknown_states=denying()), []),
        (ONE, Remove("a"), policy(), ["in-use"]),
    ],
)
def test_the_rules_that_deny(where: Stack, action: Action, site: Policy, denials: list[str]) -> None:
    verdict = judge(where, action, site)
    assert _denials(verdict) == denials
    assert verdict.decision is (Decision.DENY if denials else Decision.ALLOW)


def test_an_approval_has_its_reasons_too() -> None:
    reasons = judge(EMPTY, Load(livepatch("new", {1: 1})), policy(default=allowing(3))).reasons
    assert [(each.code, each.state) for each in reasons] == [("default", None), ("state-change", 1)]


def test_a_denial_outweighs_what_could_not_be_read() -> None:
    where = stack(installed("a", None), readable=False)
    assert judge(where, Load(livepatch("new")), policy()).decision is Decision.UNKNOWN
    assert judge(where, Load(livepatch("new")), NO_LIVEPATCH).decision is Decision.DENY


# --- State changes ---


@pytest.mark.parametrize(
    ("where", "action", "changes"),
    [
        (ONE, Load(livepatch("new", {1: 2, 2: 1})), (StateChange(1, 1, 2), StateChange(2, None, 1))),
        (ONE, Load(livepatch("new", {2: 1}, replace=False)), (StateChange(1, 1, 1), StateChange(2, None, 1))),
        (ONE, Load(livepatch("new", {2: 1}, replace=None)), (StateChange(1, 1, None), StateChange(2, None, 1))),
        (ONE, Disable("a"), (StateChange(1, 1, None),)),
        (ONE_LOADING, Reverse("a"), (StateChange(1, 1, None),)),
        (ONE_GOING, Reverse("a"), (StateChange(1, None, 1),)),
        (ONE_GOING, Remove("old"), ()),
        (ONE_LOADING, Remove("old"), (StateChange(1, 1, 1),)),
    ],
)
def test_what_an_action_makes_of_the_states(where: Stack, action: Action, changes: tuple[StateChange, ...]) -> None:
    assert state_changes(where, action) == changes


@pytest.mark.parametrize(
    ("going", "kind"), [("old", ChangeKind.KEEP), ("middle", ChangeKind.KEEP), ("new", ChangeKind.DOWNGRADE)]
)
def test_disabling_one_of_several_that_carry_a_state_leaves_the_newest_of_the_others_in_force(
    going: str, kind: ChangeKind
) -> None:
    where = stack(installed("old", {1: 1}), installed("middle", {1: 2}), installed("new", {1: 3}))
    [change] = state_changes(where, Disable(going))
    assert change.kind is kind


def test_the_first_of_duplicate_ids_is_the_version_that_changes() -> None:
    where = stack(installed("a", (State(1, 2), State(1, 7))))
    assert state_changes(where, Load(livepatch("new", (State(1, 7), State(1, 0))))) == (StateChange(1, 2, 7),)


def test_reversing_a_reversal_of_a_replacing_livepatch_takes_out_what_it_replaces() -> None:
    where = stack(installed("a", {1: 1}), installed("b", {2: 1}, replace=True, transition=True, enabled=False))
    verdict = judge(where, Reverse("b"), policy(sticky(1)))
    assert verdict.changes == (StateChange(1, 1, None), StateChange(2, None, 1))
    assert verdict.decision is Decision.DENY


# --- What a verdict stops ---


@pytest.mark.parametrize(
    ("where", "action", "site", "enforcing", "auditing"),
    [
        (EMPTY, Load(livepatch("new")), policy(), False, False),
        (EMPTY, Load(livepatch("new")), NO_LIVEPATCH, True, False),
        (EMPTY, Load(livepatch("new", release="5.10.0")), policy(), True, False),
        (ONE, Disable("a"), policy(sticky(1)), True, False),
        (stack(installed("a", None), readable=False), Load(livepatch("new")), policy(), True, False),
        (ONE, Load(livepatch("new", {1: 0})), policy(), True, True),
        (ONE, Load(livepatch("a", {1: 1})), policy(), True, True),
    ],
    ids=[
        "allowed",
        "denied by the site",
        "for another kernel",
        "sticky",
        "cannot tell",
        "refused by the kernel",
        "loaded already",
    ],
)
def test_auditing_stops_only_what_the_kernel_would_stop(
    where: Stack, action: Action, site: Policy, enforcing: bool, auditing: bool
) -> None:
    verdict = judge(where, action, site)
    audited = policy(*site.states.values(), default=site.default, mode=Mode.AUDIT)
    assert obstructs(verdict, site) is enforcing
    assert obstructs(verdict, audited) is auditing


# --- Forcing ---


@pytest.mark.parametrize(
    ("where", "site", "codes"),
    [
        (ONE_LOADING, policy(), []),
        (ONE_LOADING, policy(force=denying(7)), ["force"]),
        (ONE, policy(), ["no-transition"]),
    ],
    ids=["allowed", "denied by the site", "nothing to force"],
)
def test_a_transition_is_forced_where_there_is_one_and_the_site_lets_it(
    where: Stack, site: Policy, codes: list[str]
) -> None:
    assert _denials(judge(where, Force("a"), site)) == codes


def test_the_rule_of_the_livepatch_says_whether_it_may_be_forced() -> None:
    own = LivepatchRule(denying(2).rule, Match(name="a"), None, force=allowing(3))
    site = policy(force=denying(1), livepatches=(own,))
    assert [each.rule.line for each in judge(ONE_LOADING, Force("a"), site).reasons if each.code == "force"] == [3]
    assert _denials(judge(stack(installed("b", transition=True)), Force("b"), site)) == ["force"]


def test_without_a_rule_nothing_is_forced() -> None:
    assert _denials(judge(ONE_LOADING, Force("a"), builtin_policy("none was read"))) == ["force"]


# --- A site, all together ---


def test_a_site_with_rules_on_all_levels() -> None:
    site = policy(
        sticky(1, line=10),
        StateRule(2, allowing(20).rule, rulings={Way.DROP: denying(21), Way.DOWNGRADE: allowing(22)}),
        default=denying(2),
        livepatches=(LivepatchRule(allowing(30).rule, Match(name="klp_*"), Permission.ALLOW),),
    )
    where = stack(installed("klp_a", {1: 1, 2: 2, 3: 3}))
    verdict = judge(where, Disable("klp_a"), site)
    assert [(each.code, each.state, each.rule.line) for each in verdict.reasons] == [
        ("state-change", 1, 10),
        ("state-change", 2, 21),
    ]
    assert [each.rule.line for each in verdict.about(3)] == [None]
    assert judge(where, Load(livepatch("klp_b", {1: 1, 2: 2, 3: 3})), site).decision is Decision.ALLOW
    assert _denials(judge(where, Load(livepatch("other", {1: 1, 2: 2, 3: 3})), site)) == ["default"]
