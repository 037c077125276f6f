# SPDX-License-Identifier: GPL-2.0-or-later
"""What the status says of the hold and the guard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import pytest

from klpd.daemon.defences import guard_defence, hold_defence
from klpd.kernel.guard import GuardCounters, GuardState, GuardStatus

if TYPE_CHECKING:
    from klpd.daemon.hold import Hold
    from klpd.kernel.guard import Guard


@dataclass
class Holding:
    directories: int = 3
    unwatched: tuple[str, ...] = ()
    alive: bool = True


def test_the_hold_names_the_roots_that_are_not_watched() -> None:
    reason = "/srv/lps (does not exist)"
    told = hold_defence(cast("Hold", Holding(unwatched=(reason, "/srv/b (Permission denied)"))), "", alone=False)
    assert (told.state, told.detail) == (
        "up",
        "openers of module files in 3 directories wait for a verdict; "
        f"not watched: {reason}, /srv/b (Permission denied)",
    )


def test_a_hold_whose_threads_have_ended_is_down() -> None:
    assert hold_defence(cast("Hold", Holding(alive=False)), "", alone=False).state == "down"


def test_a_hold_beside_which_nobody_lets_go_whom_it_keeps_is_degraded() -> None:
    told = hold_defence(cast("Hold", Holding()), "", alone=True)
    assert told.state == "degraded"
    assert "klpd-release is not there" in told.detail


@dataclass
class Guarding:
    state: GuardState
    reason: str = ""
    note: str = ""

    def status(self) -> GuardStatus:
        return GuardStatus(self.state, self.reason, (), (), 0, GuardCounters(), self.note)


@pytest.mark.parametrize(
    ("guard", "state", "detail"),
    [
        (Guarding(GuardState.CLOSED), "up", "closed: the kernel refuses livepatches that were not approved"),
        (Guarding(GuardState.CLOSED, note="no module is loaded"), "up", "were not approved; no module is loaded"),
        (Guarding(GuardState.CLOSED, "a lock is missing"), "degraded", "were not approved; a lock is missing"),
        (Guarding(GuardState.INEFFECTIVE, "ftrace is off", "also"), "down", "come in unapproved; ftrace is off; also"),
    ],
    ids=["whole", "nothing to guard", "in part", "not called"],
)
def test_a_guard_is_up_where_it_lacks_nothing_itself(guard: Guarding, state: str, detail: str) -> None:
    told = guard_defence(cast("Guard", guard), "")
    assert told.state == state
    assert told.detail.endswith(detail)
