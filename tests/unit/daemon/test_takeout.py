# SPDX-License-Identifier: GPL-2.0-or-later
"""Drift is taken out as soon as that may be done, and what cannot be done is not tried for ever."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd.daemon.takeout import TakeOut
from klpd.judge.rules import Mode, OnDrift
from klpd.model import Decision, Drift, Load, Stack, Verdict
from klpd.report import JobReport, JobState
from tests.unit.daemon.bench import ONE, POLICY, TWO

if TYPE_CHECKING:
    from klpd.judge.rules import Policy

DISABLE = replace(POLICY, on_drift=OnDrift.DISABLE)
DRIFT = (Drift("klp_one", Verdict("keep", "klp_one", Decision.DENY)),)
REST = replace(Stack().after(Load(ONE)), generation=5)
VETOED, TIMED_OUT = "org.klpd1.Error.Vetoed", "org.klpd1.Error.TimedOut"


def tried(error: str) -> TakeOut:
    """After an attempt that has failed."""
    take_out = TakeOut()
    assert take_out.due(DRIFT, REST, DISABLE) == ("klp_one",)
    take_out.begun("klp_one", 7, REST, DISABLE)
    assert take_out.due(DRIFT, replace(REST, generation=6), replace(DISABLE)) == ()  # one at a time
    take_out.ended(JobReport(7, "disable", "disable klp_one", JobState.FAILED, error=error))
    return take_out


@pytest.mark.parametrize("policy", [POLICY, replace(DISABLE, mode=Mode.AUDIT)])
def test_what_the_policy_does_not_want_is_not_done(policy: Policy) -> None:
    assert TakeOut().due(DRIFT, REST, policy) == ()


@pytest.mark.parametrize(("error", "on_another_stack"), [(VETOED, ("klp_one",)), (TIMED_OUT, ())])
def test_what_failed_is_tried_again_when_something_has_changed(error: str, on_another_stack: tuple[str, ...]) -> None:
    assert tried(error).due(DRIFT, REST, DISABLE) == ()
    assert tried(error).due(DRIFT, replace(REST, generation=6), DISABLE) == on_another_stack
    assert tried(error).due(DRIFT, REST, replace(DISABLE)) == ("klp_one",)


def test_what_went_and_came_again_is_drift_anew() -> None:
    take_out = tried(TIMED_OUT)
    assert take_out.due((), Stack(), DISABLE) == ()
    assert take_out.due(DRIFT, REST, DISABLE) == ("klp_one",)


@pytest.mark.parametrize(("moving", "enabled", "due"), [(0, True, True), (0, False, False), (1, True, False)])
def test_a_transition_is_waited_for_unless_it_is_its_own(*, moving: int, enabled: bool, due: bool) -> None:
    both = Stack().after(Load(ONE)).after(Load(TWO))
    livepatches = tuple(
        replace(each, transition=rank == moving, enabled=enabled if rank == moving else True)
        for rank, each in enumerate(both.livepatches)
    )
    assert bool(TakeOut().due(DRIFT, replace(both, livepatches=livepatches), DISABLE)) is due
