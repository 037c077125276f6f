# SPDX-License-Identifier: GPL-2.0-or-later
"""Livepatches that anybody may load for a time, and the policy that may come to refuse them meanwhile."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from klpd.daemon.enforcement import Judged
from klpd.daemon.standing import StandingApprovals
from klpd.errors import GuardError, LimitError, UsageError, VetoedError
from klpd.judge.rules import Policy
from klpd.judge.verdict import judge
from klpd.model import Load
from tests.builders import denying, livepatch, policy, stack

if TYPE_CHECKING:
    from pathlib import Path

    from klpd.model import Livepatch

FIX = livepatch("klp_fix", digest="ab" * 32)
OTHER = livepatch("klp_other", digest="cd" * 32)
HOUR = 3600


@dataclass
class Guarded:
    """Judges by `policy`, and has what the guard was told of."""

    policy: Policy = field(default_factory=policy)
    guarded: bool = True
    told: dict[str, int] = field(default_factory=dict)

    def approve_for_all(self, livepatch: Livepatch, file: str, until_ns: int) -> Judged | None:
        verdict = judge(stack(), Load(livepatch), self.policy)
        refused = bool(verdict.reasons) and verdict.decision != "allow"
        if refused:
            self.told.pop(livepatch.digest, None)
        else:
            self.told[livepatch.digest] = until_ns
        return Judged(file, livepatch.digest, verdict, refused) if self.guarded else None

    def take_back(self, digest: str) -> None:
        del self.told[digest]


@pytest.fixture
def guarded() -> Guarded:
    return Guarded()


@pytest.fixture
def standing(guarded: Guarded, tmp_path: Path) -> StandingApprovals:
    return anew(guarded, tmp_path)


def anew(guarded: Guarded, folder: Path, *known: Livepatch) -> StandingApprovals:
    """As a klpd has them that starts, and remembers these livepatches."""
    return StandingApprovals(guarded, {each.digest: each for each in known}.get, folder / "approvals")


def test_who_has_one_approved_has_the_guard_told_until_when(guarded: Guarded, standing: StandingApprovals) -> None:
    approval = standing.give(FIX, "/root/klp_fix.ko", 1000, HOUR)
    assert (approval.livepatch, approval.file, approval.uid) == ("klp_fix", "/root/klp_fix.ko", 1000)
    assert approval.until == pytest.approx(time.time() + HOUR, abs=10)
    assert guarded.told[FIX.digest] == pytest.approx(time.monotonic_ns() + HOUR * 1e9, abs=10e9)
    assert [each.livepatch for each in standing.all] == ["klp_fix"]


def test_what_the_policy_denies_is_not_approved(guarded: Guarded, standing: StandingApprovals) -> None:
    guarded.policy = policy(default=denying())
    with pytest.raises(VetoedError, match="klp_fix"):
        standing.give(FIX, "klp_fix.ko", 0, HOUR)
    assert (guarded.told, standing.all) == ({}, ())


def test_a_policy_that_comes_to_deny_it_has_its_way_and_is_told_of(
    guarded: Guarded, standing: StandingApprovals
) -> None:
    standing.give(FIX, "klp_fix.ko", 0, HOUR)
    guarded.policy = policy(default=denying())
    standing.judge_anew()
    assert guarded.told == {}
    assert standing.all[0].refused
    guarded.policy = policy()
    standing.judge_anew()
    assert FIX.digest in guarded.told
    assert not standing.all[0].refused


def test_being_judged_anew_lengthens_nothing(guarded: Guarded, standing: StandingApprovals) -> None:
    standing.give(FIX, "klp_fix.ko", 0, HOUR)
    until = guarded.told[FIX.digest]
    standing.judge_anew()
    assert guarded.told[FIX.digest] == until


def test_one_whose_time_is_over_is_not_judged_again(guarded: Guarded, standing: StandingApprovals) -> None:
    standing.give(FIX, "klp_fix.ko", 0, 0.001)
    guarded.told.clear()
    time.sleep(0.002)
    standing.judge_anew()
    assert (guarded.told, standing.all) == ({}, ())


def test_one_can_be_taken_back_once(guarded: Guarded, standing: StandingApprovals) -> None:
    standing.give(FIX, "klp_fix.ko", 0, HOUR)
    standing.take_back(FIX)
    assert (guarded.told, standing.all) == ({}, ())
    with pytest.raises(UsageError, match="klp_fix are not approved"):
        standing.take_back(FIX)


def test_without_a_guard_there_is_nobody_to_be_told(guarded: Guarded, standing: StandingApprovals) -> None:
    guarded.guarded = False
    with pytest.raises(GuardError):
        standing.give(FIX, "klp_fix.ko", 0, HOUR)


def test_there_is_a_bound_on_their_number(standing: StandingApprovals) -> None:
    for number in range(256):
        standing.give(replace(FIX, digest=f"{number:064x}"), "klp_fix.ko", 0, HOUR)
    with pytest.raises(LimitError):
        standing.give(FIX, "klp_fix.ko", 0, HOUR)
    standing.give(replace(FIX, digest=f"{7:064x}"), "klp_fix.ko", 0, 2 * HOUR)


def test_a_klpd_that_starts_anew_has_those_that_it_remembers(
    guarded: Guarded, standing: StandingApprovals, tmp_path: Path
) -> None:
    standing.give(FIX, "klp_fix.ko", 1000, HOUR)
    standing.give(OTHER, "klp_other.ko", 1000, HOUR)
    before = guarded.told.pop(FIX.digest)
    later = anew(guarded, tmp_path, FIX)
    assert [(each.livepatch, each.uid) for each in later.all] == [("klp_fix", 1000)]
    later.judge_anew()
    assert guarded.told[FIX.digest] == before


def test_what_is_no_list_of_approvals_is_set_aside(guarded: Guarded, tmp_path: Path) -> None:
    (tmp_path / "approvals").write_text("[" * 100_000)
    assert anew(guarded, tmp_path, FIX).all == ()
    assert [each.name.startswith("approvals.unreadable") for each in tmp_path.iterdir()] == [True]
