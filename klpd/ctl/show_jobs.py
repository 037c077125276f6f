# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs: what klpd does, did, or is about to do, for whom, and how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.ctl.page import Span, Tone, line
from klpd.ctl.table import table
from klpd.report import JobState, StepState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.ctl.page import Line, Page
    from klpd.report import JobReport

_HEADER: Final = ("id", "kind", "goal", "is", "who", "progress")
_TONES: Final = {
    JobState.DONE: Tone.GOOD,
    JobState.FAILED: Tone.BAD,
    JobState.CANCELED: Tone.WARN,
    JobState.REVERSING: Tone.WARN,
}


def show_jobs(jobs: tuple[JobReport, ...], page: Page, *, indent: int = 0) -> Iterator[Line]:
    """A line for each job, the oldest first."""
    if not jobs:
        yield line("no jobs")
        return
    rows = [
        (
            str(each.id),
            each.kind,
            each.goal,
            Span(each.state.value, _TONES.get(each.state, Tone.PLAIN)),
            who(each.uid),
            _progress(each),
        )
        for each in jobs
    ]
    yield from table(_HEADER, rows, page, indent=indent)


def who(uid: int | None) -> str:
    """The name of who asked for a job; None is klpd itself."""
    if uid is None:
        return "klpd"
    from pwd import getpwuid

    try:
        return getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _progress(job: JobReport) -> str:
    if not job.steps:
        return "-"
    done = sum(each.state is StepState.DONE for each in job.steps)
    steps = f"{done} of {len(job.steps)} {'step' if len(job.steps) == 1 else 'steps'}"
    count = len(job.stragglers)
    if job.state.final or not count:
        return steps
    return f"{steps}; transition {job.progress:.0%} ({count} {'task' if count == 1 else 'tasks'} left)"
