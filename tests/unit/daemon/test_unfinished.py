# SPDX-License-Identifier: GPL-2.0-or-later
"""What is kept of jobs that are not over, for a klpd that starts anew."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd.daemon.unfinished import Unfinished
from klpd.errors import JobError
from klpd.judge.planner import plan_apply
from klpd.report import JobReport, JobState, StepReport, StepState
from tests.builders import livepatch, policy, stack

if TYPE_CHECKING:
    from pathlib import Path

    from klpd.model import Livepatch

ONE, TWO = livepatch("klp_one"), livepatch("klp_two")
PLAN = plan_apply(stack().after(plan_apply(stack(), ONE, policy()).steps[0].action), TWO, policy())
REPORT = JobReport(
    7,
    "apply",
    "apply klp_two",
    JobState.RUNNING,
    steps=tuple(StepReport(each.verdict, StepState.PENDING) for each in PLAN.steps),
    uid=1000,
)
KNOWN = {each.digest: each for each in (ONE, TWO)}


def known(digest: str, _parameters: tuple[str, ...]) -> Livepatch | None:
    return KNOWN.get(digest)


def nothing(_digest: str, _parameters: tuple[str, ...]) -> None:
    return None


def test_a_job_is_there_again_with_its_plan(tmp_path: Path) -> None:
    Unfinished(tmp_path).note(REPORT, PLAN)
    (saved,) = Unfinished(tmp_path).jobs
    assert saved.report == REPORT
    assert [each.action for each in saved.plan(known).steps] == [each.action for each in PLAN.steps]
    assert Unfinished(tmp_path).last_id == 7


@pytest.mark.parametrize(
    ("states", "begun"),
    [
        ((StepState.PENDING, StepState.PENDING), 0),
        ((StepState.RUNNING, StepState.PENDING), 0),
        ((StepState.DONE, StepState.PENDING), 1),
        ((StepState.DONE, StepState.RUNNING), 1),
        ((StepState.DONE, StepState.DONE), 2),
    ],
)
def test_it_tells_how_far_it_was(tmp_path: Path, states: tuple[StepState, ...], begun: int) -> None:
    steps = tuple(replace(step, state=state) for step, state in zip(REPORT.steps, states, strict=True))
    Unfinished(tmp_path).note(replace(REPORT, steps=steps), PLAN)
    assert Unfinished(tmp_path).jobs[0].begun == begun


def test_its_livepatches_have_their_parameters_again(tmp_path: Path) -> None:
    given: list[tuple[str, ...]] = []

    def noted(digest: str, parameters: tuple[str, ...]) -> Livepatch | None:
        given.append(parameters)
        return KNOWN.get(digest)

    plan = plan_apply(stack(), replace(ONE, parameters=("a=1", "b=two words")), policy())
    report = replace(REPORT, steps=tuple(StepReport(each.verdict, StepState.PENDING) for each in plan.steps))
    Unfinished(tmp_path).note(report, plan)
    (saved,) = Unfinished(tmp_path).jobs
    saved.plan(noted)
    assert given == [("a=1", "b=two words")]


def test_a_job_that_is_over_is_forgotten_and_its_id_is_not(tmp_path: Path) -> None:
    unfinished = Unfinished(tmp_path)
    unfinished.note(REPORT, PLAN)
    unfinished.note(replace(REPORT, state=JobState.DONE), PLAN)
    assert (Unfinished(tmp_path).jobs, Unfinished(tmp_path).last_id) == ((), 7)


def test_progress_alone_is_not_written(tmp_path: Path) -> None:
    unfinished = Unfinished(tmp_path)
    unfinished.note(REPORT, PLAN)
    before = (tmp_path / "jobs").stat().st_mtime_ns, (tmp_path / "jobs").stat().st_ino
    unfinished.note(replace(REPORT, progress=0.5), PLAN)
    assert ((tmp_path / "jobs").stat().st_mtime_ns, (tmp_path / "jobs").stat().st_ino) == before


def test_a_livepatch_whose_file_is_gone_is_named(tmp_path: Path) -> None:
    Unfinished(tmp_path).note(REPORT, PLAN)
    with pytest.raises(JobError, match="before it loaded klp_two, and does not have its file"):
        Unfinished(tmp_path).jobs[0].plan(nothing)


def test_a_job_whose_actions_are_not_those_of_its_steps_is_not_planned_again(tmp_path: Path) -> None:
    Unfinished(tmp_path).note(REPORT, PLAN)
    saved = json.loads((tmp_path / "jobs").read_text())
    del saved["jobs"][0]["actions"][0]
    (tmp_path / "jobs").write_text(json.dumps(saved))
    with pytest.raises(JobError, match="1 actions for 2 steps; ask for it again"):
        Unfinished(tmp_path).jobs[0].plan(known)


@pytest.mark.parametrize("change", [{"boot_id": "another"}, {"jobs": 5}], ids=["of another boot", "of another shape"])
def test_what_does_not_concern_this_kernel_or_makes_no_sense_is_nothing(
    tmp_path: Path, change: dict[str, object]
) -> None:
    Unfinished(tmp_path).note(REPORT, PLAN)
    saved = json.loads((tmp_path / "jobs").read_text())
    (tmp_path / "jobs").write_text(json.dumps({**saved, **change}))
    assert Unfinished(tmp_path).jobs == ()


def test_a_file_that_was_torn_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "jobs").write_bytes(b"{")
    assert Unfinished(tmp_path).jobs == ()
