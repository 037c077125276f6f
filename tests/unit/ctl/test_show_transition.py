# SPDX-License-Identifier: GPL-2.0-or-later
"""The running transition as people read it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd.ctl.page import Page
from klpd.ctl.show_transition import show_transition
from klpd.report import Straggler
from tests.unit.ctl.examples import TRANSITION, text_of

if TYPE_CHECKING:
    from klpd.report import TransitionReport

NOW = 1012.0


def shown(transition: TransitionReport, *, own: bool = True, now: float = NOW) -> str:
    return text_of(show_transition(transition, Page(), now, own=own))


def test_a_straggler_is_shown_with_all_that_is_known_of_it() -> None:
    head, outlook, *rest = shown(TRANSITION).splitlines()
    assert head == "klp_v3: patching, 1 of 134 tasks left, for 12s now"
    assert outlook.startswith("  after 5min, in 4min 48s (")
    assert outlook.endswith("), klpd reverses it; no rule lets it be forced")
    assert rest == [
        "",
        "  klp_test_held (pid 812, tid 813): sleeping, stuck for 12s",
        "    held by    klp_test_wait [klp_test_target]",
        "    sleeps in  klp_test_wait",
        "    stack      klp_test_wait [klp_test_target]",
        "               kthread",
    ]


def test_what_is_not_known_of_a_straggler_is_said_or_left_out() -> None:
    unknown = replace(TRANSITION, stragglers=(Straggler(1, 1, "\x1b[2Jinit"),), since=None, goal="unpatched")
    assert shown(unknown).splitlines() == [
        "klp_v3: unpatching, 1 of 134 tasks left",
        "  after 5min, klpd reverses it; no rule lets it be forced",
        "",
        r"  \x1b[2Jinit (pid 1, tid 1): state unknown",
        "    held by    not to be told: no function that the transition exchanges is on its stack",
    ]


@pytest.mark.parametrize(
    ("transition", "own", "now", "outlook"),
    [
        (replace(TRANSITION, on_timeout="wait"), True, NOW, "klpd waits for it, for more than its 5min too"),
        (replace(TRANSITION, on_timeout="force"), True, NOW, "), klpd forces it"),
        (TRANSITION, True, 1300.0, "its 5min are over, and klpd reverses it if the rules let it"),
        (TRANSITION, False, NOW, "no job of klpd's began it, and klpd leaves it alone; klpctl revert reverses it"),
        (replace(TRANSITION, may_force=True), True, NOW, "klpctl force klp_v3 forces it"),
        (TRANSITION, True, NOW, "no rule lets it be forced"),
    ],
)
def test_what_becomes_of_it_is_said(transition: TransitionReport, own: bool, now: float, outlook: str) -> None:
    assert outlook in shown(transition, own=own, now=now).splitlines()[1]
