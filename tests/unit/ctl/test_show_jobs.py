# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs as people read them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from klpd.ctl.page import Page
from klpd.ctl.show_jobs import show_jobs, who
from klpd.report import JobState, StepState
from tests.unit.ctl.examples import HELD, job, text_of

RUNNING, DONE, PENDING = StepState.RUNNING, StepState.DONE, StepState.PENDING


def test_each_job_is_a_line_with_who_asked_for_it_and_how_far_it_is() -> None:
    jobs = (
        replace(job(JobState.DONE, DONE, DONE, progress=1.0), uid=0),
        replace(job(JobState.RUNNING, DONE, RUNNING, progress=0.99, stragglers=(HELD,)), id=8),
        replace(job(JobState.WAITING), id=9, kind="revert", goal="revert", uid=0),
    )
    assert text_of(show_jobs(jobs, Page())).splitlines() == [
        "id  kind    goal          is       who   progress",
        "7   apply   apply klp_v3  done     root  2 of 2 steps",
        "8   apply   apply klp_v3  running  klpd  1 of 2 steps; transition 99% (1 task left)",
        "9   revert  revert        waiting  root  -",
    ]


def test_no_jobs_are_said_to_be_none() -> None:
    assert text_of(show_jobs((), Page())) == "no jobs"


@pytest.mark.parametrize(("uid", "name"), [(None, "klpd"), (0, "root"), (3999999999, "3999999999")])
def test_users_are_named_where_they_have_a_name(uid: int | None, name: str) -> None:
    assert who(uid) == name
