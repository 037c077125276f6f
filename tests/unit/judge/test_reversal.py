# SPDX-License-Identifier: GPL-2.0-or-later
"""A reversal takes no state back that nobody restores."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klpd.judge.reversal import RESTORED
from klpd.judge.rules import StateRule, Way
from klpd.judge.verdict import judge
from klpd.model import Decision, Reverse
from tests.builders import allowing, denying, installed, policy, stack

if TYPE_CHECKING:
    from klpd.judge.rules import Ruling
    from klpd.model import Stack

OLD = installed("v1", {1: 1})


def upgrading(*, restores: bool | None, states: dict[int, int] | None = None, enabled: bool = True) -> Stack:
    new = installed("v2", states or {1: 2}, replace=True, transition=True, enabled=enabled, restores=restores)
    return stack(OLD, new)


@pytest.mark.parametrize(
    ("where", "denied"),
    [
        (upgrading(restores=True), False),
        (upgrading(restores=False), True),
        (upgrading(restores=None), True),
        (upgrading(restores=False, states={1: 1}), False),
        (upgrading(restores=False, states={1: 1, 2: 1}), False),
        (upgrading(restores=False, enabled=False), False),
    ],
    ids=[
        "it can restore it",
        "it cannot",
        "nobody knows whether it can",
        "the version stays",
        "what it introduced goes",
        "it is on its way out already",
    ],
)
def test_a_state_goes_back_to_an_older_version_only_if_post_unpatch_can_restore_it(where: Stack, denied: bool) -> None:
    verdict = judge(where, Reverse("v2"), policy())
    assert [each.code for each in verdict.findings if each.decision is Decision.DENY] == ["not-restored"] * denied


@pytest.mark.parametrize(
    ("ruling", "decision", "code"),
    [(allowing(7), Decision.ALLOW, "state-change"), (denying(7), Decision.DENY, "state-change")],
)
@pytest.mark.parametrize("restores", [True, False, None])
def test_the_word_of_the_site_counts_more(ruling: Ruling, decision: Decision, code: str, restores: bool | None) -> None:
    site = policy(StateRule(1, denying(5).rule, rulings={Way.REVERSE: ruling}))
    verdict = judge(upgrading(restores=restores), Reverse("v2"), site)
    assert verdict.decision is decision
    assert [(each.code, each.rule.line) for each in verdict.findings if each.state == 1] == [(code, 7)]


@pytest.mark.parametrize(
    ("restores", "lack"),
    [
        (False, "it has no post_unpatch callback"),
        (None, "it cannot be known whether it has a post_unpatch callback"),
    ],
)
def test_a_refusal_names_the_state_its_versions_what_is_missing_and_the_remedy(
    restores: bool | None, lack: str
) -> None:
    site = policy(StateRule(1, allowing().rule, name="locks"))
    [finding] = judge(upgrading(restores=restores), Reverse("v2"), site).reasons
    assert finding.message == (
        f"reversing the transition of v2 takes state 0x1 (locks) back from version 2 to 1, and {lack} to restore that"
    )
    assert finding.rule is RESTORED
    assert finding.remedy == (
        'let the transition end, or set reverse = "allow" for state 0x1, if nothing has to be restored'
    )
