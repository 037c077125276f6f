# SPDX-License-Identifier: GPL-2.0-or-later
"""What the status says of the hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from klpd.daemon.defences import hold_defence

if TYPE_CHECKING:
    from klpd.daemon.hold import Hold


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
