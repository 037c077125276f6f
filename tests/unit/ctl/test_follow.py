# SPDX-License-Identifier: GPL-2.0-or-later
"""Following a job to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klpd.ctl.follow import follow
from klpd.ctl.service import CancelRefused, Interrupted
from klpd.errors import DaemonUnavailableError
from klpd.report import JobState
from tests.unit.ctl.examples import job

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.ctl.service import JobEvent
    from klpd.report import JobReport

RUNNING, DONE, CANCELED = job(JobState.RUNNING), job(JobState.DONE), job(JobState.CANCELED)


class Recorder:
    """A display that keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[JobReport | str] = []

    def report(self, report: JobReport) -> None:
        self.seen.append(report)

    def note(self, text: str) -> None:
        self.seen.append(text)

    def close(self) -> None:
        self.seen.append("closed")


def followed(*events: JobEvent) -> tuple[JobReport | None, list[JobReport | str], int]:
    display, canceled = Recorder(), []
    report = follow(events, lambda: canceled.append(1), display)
    return report, display.seen, len(canceled)


def test_every_report_is_shown_and_the_final_one_returned() -> None:
    assert followed(RUNNING, DONE) == (DONE, [RUNNING, DONE, "closed"], 0)


def test_a_job_that_has_ended_already_is_not_waited_for() -> None:
    def events() -> Iterator[JobEvent]:
        yield DONE
        pytest.fail("nobody should wait for more")

    assert follow(events(), lambda: None, Recorder()) == DONE


def test_the_first_interrupt_asks_to_cancel_and_goes_on() -> None:
    report, seen, canceled = followed(RUNNING, Interrupted(), CANCELED)
    assert (report, canceled) == (CANCELED, 1)
    assert "asking klpd to cancel the job; Ctrl-C again leaves it alone" in seen


def test_the_second_interrupt_leaves_the_job_alone() -> None:
    report, _seen, canceled = followed(RUNNING, Interrupted(), Interrupted(), DONE)
    assert (report, canceled) == (None, 1)


def test_a_refused_cancellation_is_told_and_the_job_goes_on() -> None:
    report, seen, _canceled = followed(RUNNING, Interrupted(), CancelRefused("polkit does not allow it"), DONE)
    assert report == DONE
    assert "the job goes on: polkit does not allow it" in seen


def test_the_display_is_closed_when_klpd_goes_away() -> None:
    def events() -> Iterator[JobEvent]:
        yield RUNNING
        raise DaemonUnavailableError("klpd has ended meanwhile")

    display = Recorder()
    with pytest.raises(DaemonUnavailableError):
        follow(events(), lambda: None, display)
    assert display.seen == [RUNNING, "closed"]
