# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways out of a transition that does not end, each in each state of one: the table of klpd(8), cell by cell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from klpd.errors import JobError
from klpd.judge.rules import OnTimeout, TransitionRules
from klpd.report import JobState
from tests.unit.daemon.bench import ALLOW, ONE, POLICY, Bench

if TYPE_CHECKING:
    from pathlib import Path

    from klpd.daemon.jobs import Job

CANCELED = "org.klpd1.Error.Canceled"
TIMED_OUT = "org.klpd1.Error.TimedOut"
FAILED = "org.klpd1.Error.JobFailed"


@dataclass(frozen=True)
class Stuck:
    """A transition that does not end: patching or not, taken back in its midst or not, by a job or by others."""

    patching: bool
    back: bool
    job: bool = True
    restarted: bool = False

    @property
    def goal(self) -> bool:
        """Whether the livepatch is in force once it has ended where it goes to now."""
        return self.patching is not self.back

    def __str__(self) -> str:
        kind = "patching" if self.patching else "unpatching"
        words = (
            kind,
            self.back and "taken back",
            "by a job" if self.job else "by others",
            self.restarted and "restart",
        )
        return " ".join(each for each in words if each)


OWN = [
    Stuck(patching, back, restarted=restarted)
    for patching in (True, False)
    for back in (True, False)
    for restarted in (True, False)
]
OTHERS = [Stuck(patching, back, job=False) for patching in (True, False) for back in (True, False)]
every_one = pytest.mark.parametrize("stuck", [*OWN, *OTHERS], ids=str)
each_of_a_job = pytest.mark.parametrize("stuck", OWN, ids=str)


def brought_about(bench: Bench, stuck: Stuck) -> Job | None:
    """The job that waits for it."""
    kernel = bench.kernel
    kernel.lasting, kernel.reversal_lasting = None, None
    if not stuck.patching:
        kernel.install(ONE)
    job = None
    if stuck.job:
        job = _asked(bench, stuck)
    else:
        if stuck.patching:
            kernel.load(ONE.name.encode(), ONE.name)
        if not stuck.patching or stuck.back:
            kernel.set_enabled(ONE.name, enabled=False)
        if not stuck.patching and stuck.back:
            kernel.set_enabled(ONE.name, enabled=True)
    if stuck.restarted:
        bench.restart()
        (job,) = bench.resumed
        _wait_until_it_waits(bench, job)
    kernel.reversal_lasting = 0  # the other way is free
    return job


def _asked(bench: Bench, stuck: Stuck) -> Job:
    job = bench.apply(ONE) if stuck.patching else bench.disable(ONE)
    _wait_until_it_waits(bench, job)
    if stuck.back:
        bench.jobs.cancel(job)
        bench.wait(lambda: job.report.state is JobState.REVERSING)
        bench.wait(lambda: (moving := bench.kernel.now.transition) and moving.enabled is stuck.goal)
        _wait_until_it_waits(bench, job)
    return job


def _wait_until_it_waits(bench: Bench, job: Job) -> None:
    bench.wait(lambda: job.report.stragglers)


def in_force(bench: Bench) -> bool:
    assert bench.kernel.now.transition is None
    assert bench.kernel.now.leftovers == ()
    return bench.kernel.now.find(ONE.name) is not None


def over(bench: Bench, *jobs: Job | None) -> None:
    bench.wait(lambda: all(each is None or each.report.state.final for each in jobs))
    for each in jobs:
        assert each is None or all(step.state in ("done", "failed", "pending") for step in each.report.steps)


@every_one
def test_revert_turns_it_round(tmp_path: Path, stuck: Stuck) -> None:
    bench = Bench(tmp_path)
    job = brought_about(bench, stuck)
    revert = bench.revert()
    over(bench, job, revert)
    assert revert.report.state is JobState.DONE
    assert in_force(bench) is not stuck.goal
    if job is not None:
        assert job.report.error == (CANCELED if stuck.back else FAILED)
        assert "somebody else" in (job.report.message or "")


@every_one
def test_force_ends_it_where_it_goes_to(tmp_path: Path, stuck: Stuck) -> None:
    bench = Bench(tmp_path)
    job = brought_about(bench, stuck)
    force = bench.force()
    over(bench, job, force)
    assert force.report.state is JobState.DONE
    assert (bench.kernel.now.find(ONE.name) is not None) is stuck.goal
    if job is not None:
        assert job.report.error == (CANCELED if stuck.back else None)


@each_of_a_job
def test_cancel_turns_it_round_once(tmp_path: Path, stuck: Stuck) -> None:
    bench = Bench(tmp_path)
    job = brought_about(bench, stuck)
    assert job is not None
    if stuck.back:
        with pytest.raises(JobError, match="reverses its transition already; klpctl blockers tells"):
            bench.jobs.cancel(job)
        bench.kernel.settle()
    else:
        bench.jobs.cancel(job)
    over(bench, job)
    assert (job.report.state, job.report.error) == (JobState.CANCELED, CANCELED)
    assert in_force(bench) is not stuck.patching


@each_of_a_job
def test_what_takes_too_long_is_reversed_once(tmp_path: Path, stuck: Stuck) -> None:
    bench = Bench(tmp_path)
    job = brought_about(bench, stuck)
    assert job is not None
    before = len(bench.kernel.calls)
    bench.policy = replace(POLICY, transition=TransitionRules(timeout=0.0, on_timeout=OnTimeout.REVERSE))
    if stuck.back:
        bench.wait(lambda: (found := bench.jobs.waiting_for(ONE.name)) and found[1].then == "wait" and found[1].turned)
        assert len(bench.kernel.calls) == before
        bench.kernel.settle()
    over(bench, job)
    assert job.report.error == (CANCELED if stuck.back else TIMED_OUT)
    assert in_force(bench) is not stuck.patching


@each_of_a_job
def test_what_takes_too_long_is_forced_whichever_way_it_goes(tmp_path: Path, stuck: Stuck) -> None:
    bench = Bench(tmp_path)
    job = brought_about(bench, stuck)
    assert job is not None
    rules = TransitionRules(timeout=0.0, on_timeout=OnTimeout.FORCE, force=ALLOW)
    bench.policy = replace(POLICY, transition=rules)
    over(bench, job)
    assert f"force {ONE.name}" in bench.kernel.calls
    assert job.report.error == (CANCELED if stuck.back else None)
    assert (bench.kernel.now.find(ONE.name) is not None) is stuck.goal


@each_of_a_job
def test_what_is_to_be_waited_for_is(tmp_path: Path, stuck: Stuck) -> None:
    bench = Bench(tmp_path)
    job = brought_about(bench, stuck)
    assert job is not None
    bench.policy = replace(POLICY, transition=TransitionRules(timeout=0.0, on_timeout=OnTimeout.WAIT))
    bench.wait(lambda: (found := bench.jobs.waiting_for(ONE.name)) and found[1].then == "wait")
    assert not job.report.state.final
    bench.kernel.settle()
    over(bench, job)
    assert in_force(bench) is stuck.goal


@every_one
def test_an_echo_of_others_turns_it_round_and_the_job_tells(tmp_path: Path, stuck: Stuck) -> None:
    bench = Bench(tmp_path)
    job = brought_about(bench, stuck)
    bench.kernel.set_enabled(ONE.name, enabled=not stuck.goal)
    if job is None:
        bench.kernel.settle()
        assert (bench.kernel.now.find(ONE.name) is not None) is not stuck.goal
        return
    over(bench, job)
    assert job.report.error == (CANCELED if stuck.back else FAILED)
    assert "somebody else" in (job.report.message or "")
    assert (bench.kernel.now.find(ONE.name) is not None) is not stuck.goal


@every_one
def test_an_echo_of_others_forces_it(tmp_path: Path, stuck: Stuck) -> None:
    bench = Bench(tmp_path)
    job = brought_about(bench, stuck)
    bench.kernel.force(ONE.name)
    over(bench, job)
    assert job is None or job.report.error == (CANCELED if stuck.back else None)
    assert (bench.kernel.now.find(ONE.name) is not None) is stuck.goal


@pytest.mark.parametrize("stuck", OTHERS, ids=str)
def test_what_others_began_is_let_alone(tmp_path: Path, stuck: Stuck) -> None:
    bench = Bench(tmp_path)
    assert brought_about(bench, stuck) is None
    bench.policy = replace(POLICY, transition=TransitionRules(timeout=0.0, on_timeout=OnTimeout.REVERSE))
    assert bench.jobs.waiting_for(ONE.name) is None
