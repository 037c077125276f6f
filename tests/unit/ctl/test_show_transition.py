# SPDX-License-Identifier: GPL-2.0-or-later
"""The running transition as people read it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd.ctl.page import Page
from klpd.ctl.show_transition import show_transition
from klpd.report import Prospect, Straggler
from tests.unit.ctl.examples import TRANSITION, text_of

if TYPE_CHECKING:
    from klpd.report import TransitionReport

NOW = 1012.0


def shown(transition: TransitionReport, *, now: float = NOW) -> str:
    return text_of(show_transition(transition, Page(), now))


def test_a_straggler_is_shown_with_all_that_is_known_of_it() -> None:
    head, outlook, *rest = shown(TRANSITION).splitlines()
    assert head == "klp_v3: patching, 1 of 134 tasks left, for 12s now"
    assert outlook.startswith("  after 5min, in 4min 48s (")
    assert outlook.endswith("), klpd (job 7) reverses it; no rule lets it be forced")
    assert rest == [
        "",
        "  klp_test_held (pid 812, tid 813): sleeping, stuck for 12s",
        "    held by    klp_test_wait [klp_test_target]",
        "    sleeps in  klp_test_wait",
        "    stack      klp_test_wait [klp_test_target]",
        "               kthread",
    ]


def test_what_is_not_known_of_a_straggler_is_said_or_left_out() -> None:
    unknown = replace(
        TRANSITION, stragglers=(Straggler(1, 1, "\x1b[2Jinit"),), since=None, goal="unpatched", job=None, prospect=None
    )
    assert shown(unknown).splitlines() == [
        "klp_v3: unpatching, 1 of 134 tasks left",
        "  no job of klpd's waits for it, and klpd leaves it alone; klpctl revert reverses it; "
        "no rule lets it be forced",
        "",
        r"  \x1b[2Jinit (pid 1, tid 1): state unknown",
        "    held by    not to be told: no function that the transition exchanges is on its stack",
    ]


def waited_for(then: str, **more: object) -> TransitionReport:
    due = None if then == "wait" else 1300.0
    return replace(TRANSITION, prospect=replace(Prospect("klp_v3", then, due=due), **more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("transition", "now", "outlook"),
    [
        (waited_for("wait"), NOW, "klpd (job 7) waits for it, for more than its 5min too; no rule"),
        (waited_for("wait", turned=True), NOW, "for more than its 5min too: it goes back already; klpctl revert turns"),
        (waited_for("force"), NOW, "), klpd (job 7) forces it; no rule"),
        (waited_for("force", turned=True), NOW, ") forces it; klpctl revert turns it round again; no rule"),
        (TRANSITION, 1301.0, "its 5min are over, and klpd (job 7) reverses it; no rule"),
        (
            waited_for("reverse", refused="state 0x61 is sticky (50-site.toml:3)"),
            1301.0,
            "its 5min are over, and klpd (job 7) reverses it as soon as the rules let it; it tries again once the "
            "policy or the stack has changed: state 0x61 is sticky (50-site.toml:3); no rule",
        ),
        (replace(TRANSITION, job=None, prospect=None), NOW, "klpd leaves it alone; klpctl revert reverses it; no rule"),
        (replace(TRANSITION, may_force=True), NOW, "klpctl force klp_v3 forces it"),
        (TRANSITION, NOW, "no rule lets it be forced"),
    ],
)
def test_what_becomes_of_it_is_said(transition: TransitionReport, now: float, outlook: str) -> None:
    assert outlook in shown(transition, now=now).splitlines()[1]
