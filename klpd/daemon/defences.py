# SPDX-License-Identifier: GPL-2.0-or-later
"""The lines of defence as `klpctl status` shows them: what each does here, and what is left open where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.report import Defence, DefenceState

if TYPE_CHECKING:
    from klpd.daemon.hold import Hold


def hold_defence(hold: Hold | None, why_not: str) -> Defence:
    """The hold on module files; `why_not` tells why there is none."""
    if hold is None:
        return Defence("hold", DefenceState.DOWN, f"{why_not}; load livepatches with klpctl apply")
    return Defence(
        "hold", DefenceState.UP, f"openers of module files in {hold.directories} directories wait for a verdict"
    )


def reconcile_defence(memory: object | None, why_not: str) -> Defence:
    """The comparison of what is installed with what was approved."""
    if memory is None:
        return Defence(
            "reconcile",
            DefenceState.DEGRADED,
            f"states come from files only, since kernel memory cannot be read: {why_not}",
        )
    return Defence("reconcile", DefenceState.UP, "the installed stack and its states are read from the kernel")
