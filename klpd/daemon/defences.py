# SPDX-License-Identifier: GPL-2.0-or-later
"""The lines of defence as `klpctl status` shows them: what each does here, and what is left open where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.kernel.gate import OPENED
from klpd.kernel.guard import GuardState
from klpd.kernel.guard_abi import GuardMode
from klpd.report import Defence, DefenceState

if TYPE_CHECKING:
    from klpd.daemon.hold import Hold
    from klpd.kernel.guard import Guard


def hold_defence(hold: Hold | None, why_not: str, *, alone: bool) -> Defence:
    """The hold on module files; `why_not` tells why there is none.  `alone`: nobody else lets go whom it holds."""
    if hold is None:
        return Defence("hold", DefenceState.DOWN, f"{why_not}; load livepatches with klpctl apply")
    if not hold.alive:
        return Defence("hold", DefenceState.DOWN, "its thread has ended, and nobody is held: systemctl restart klpd")
    detail = f"openers of module files in {hold.directories} directories wait for a verdict"
    if hold.unwatched:
        detail += f"; not watched: {', '.join(hold.unwatched)}"
    if alone:
        detail += "; klpd-release is not there, and so they would wait for klpd if that hung"
    return Defence("hold", DefenceState.DEGRADED if alone else DefenceState.UP, detail)


def guard_defence(guard: Guard | None, why_not: str) -> Defence:
    """The guard in the kernel, as it is now.  Raises KernelError."""
    if guard is None:
        return Defence("guard", DefenceState.DOWN, f"{why_not}; whoever may load modules can load any livepatch")
    status = guard.status()
    lost = f"; {status.counters.lost} of its events were lost" if status.counters.lost else ""
    detail = "; ".join(each for each in (f"{_GUARD_DETAILS[status.state]}{lost}", status.reason, status.note) if each)
    match status.state:
        case GuardState.CLOSED:
            return Defence("guard", DefenceState.DEGRADED if status.reason else DefenceState.UP, detail)
        case GuardState.OBSERVING:
            return Defence("guard", DefenceState.DEGRADED, detail)
        case GuardState.OPEN | GuardState.INEFFECTIVE:
            return Defence("guard", DefenceState.DOWN, detail)


def fallback_defence(mode: GuardMode, why_not: str) -> Defence:
    """What stands in for the guard (klpd.daemon.fallback), under the mode that a guard would have."""
    match mode:
        case GuardMode.ENFORCE:
            return Defence("guard", DefenceState.DEGRADED, f"{why_not}; {_FALLBACK}")
        case GuardMode.OBSERVE:
            detail = f"{why_not}; nor does fanotify refuse anything, since the policy's mode is audit"
            return Defence("guard", DefenceState.DOWN, detail)
        case GuardMode.OFF:
            detail = f"{why_not}; nor does fanotify refuse anything, since {OPENED} is there"
            return Defence("guard", DefenceState.DOWN, detail)


_FALLBACK: Final = (
    "in its place, and only while klpd runs, fanotify refuses finit_module of livepatches in the watched directories; "
    "those that come with init_module, from a memfd, from files elsewhere, or compressed and unpacked by their loader "
    "are not refused"
)
_GUARD_DETAILS: Final = {
    GuardState.CLOSED: "closed: the kernel refuses livepatches that were not approved",
    GuardState.OBSERVING: "observing, since the policy's mode is audit: the kernel reports and refuses nothing",
    GuardState.OPEN: "open: the kernel refuses nothing",
    GuardState.INEFFECTIVE: "ineffective: a livepatch may come in unapproved",
}


def reconcile_defence(memory: object | None, why_not: str) -> Defence:
    """The comparison of what is installed with what was approved."""
    if memory is None:
        return Defence(
            "reconcile",
            DefenceState.DEGRADED,
            f"states come from files only: {why_not}",
        )
    return Defence("reconcile", DefenceState.UP, "the installed stack and its states are read from the kernel")


def state_defence(trouble: str) -> Defence:
    """What klpd has to know after a restart; `trouble` tells what of it is not written, and why."""
    if trouble:
        detail = f"what klpd has to know after a restart is not all written, and tried again ({trouble})"
        return Defence("state", DefenceState.DEGRADED, detail)
    return Defence("state", DefenceState.UP, "what klpd has to know after a restart is written")
