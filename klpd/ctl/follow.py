# SPDX-License-Identifier: GPL-2.0-or-later
"""Following a job to its end.

For who began the job, the first Ctrl-C asks klpd to cancel it, which may mean that it reverses a transition, and goes
on following; the second leaves it alone.  For others the first does.  A job does not need anybody who follows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.ctl.service import CancelRefused, Interrupted
from klpd.report import JobReport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from klpd.ctl.progress import Display
    from klpd.ctl.service import JobEvent


def follow(events: Iterable[JobEvent], cancel: Callable[[], None] | None, display: Display) -> JobReport | None:
    """The job's last report; None where whoever follows it wanted no more of it.

    `cancel` asks for the job's end; without it, that is left to others.  Raises DaemonUnavailableError where klpd goes
    away meanwhile.
    """
    canceled = False
    try:
        for event in events:
            match event:
                case JobReport():
                    display.report(event)
                    if event.state.final:
                        return event
                case Interrupted():
                    if cancel is None or canceled:
                        return None
                    canceled = True
                    display.note("asking klpd to cancel the job; Ctrl-C again leaves it alone")
                    cancel()
                case CancelRefused(message):
                    display.note(f"the job goes on: {message}")
    finally:
        display.close()
    return None
