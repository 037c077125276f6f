# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs take their turns, but for what is asked of the transition that another job waits for."""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd.daemon.planning import _check_same_transition
from klpd.errors import LimitError, NotAuthorizedError, UsageError
from klpd.judge.planner import plan_apply, plan_apply_all, plan_disable, plan_force, plan_revert
from klpd.judge.rules import Permission, Ruling, StateRule, TransitionRules, Way
from klpd.judge.verdict import judge
from klpd.model import VMLINUX, InstalledObject, State
from klpd.report import JobState
from tests.unit.daemon.bench import ALLOW, ONE, POLICY, TWO, Bench

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from klpd.daemon.jobs import Job
    from klpd.judge.planner import Plan
    from klpd.judge.rules import Policy
    from klpd.model import Action, Livepatch, Stack, Verdict


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_revert_does_not_wait_for_the_job_whose_transition_it_takes_back(bench: Bench) -> None:
    load = bench.apply(ONE)
    bench.wait(lambda: load.report.stragglers)
    revert = bench.ask("revert", lambda stack: plan_revert(stack, (), POLICY))
    bench.wait(lambda: len(bench.ended) == 2)
    assert bench.ended == ["apply failed", "revert done"]
    assert "reversed by somebody else" in (load.report.message or "")
    assert [each.verdict.action for each in revert.report.steps] == ["reverse", "remove"]
    assert (bench.kernel.now.livepatches, bench.kernel.now.leftovers) == ((), ())


def test_a_transition_that_is_forced_lets_the_job_that_waits_for_it_go_on(bench: Bench) -> None:
    load = bench.apply(ONE)
    bench.wait(lambda: load.report.stragglers)
    bench.ask("force", lambda stack: plan_force(stack, "klp_one", POLICY))
    bench.wait(lambda: len(bench.ended) == 2)
    assert bench.ended == ["force done", "apply done"]


def test_what_else_is_asked_for_has_its_turn_when_that_job_is_over(bench: Bench) -> None:
    load = bench.apply(ONE)
    bench.wait(lambda: load.report.stragglers)
    second = bench.apply(TWO)
    bench.ask("revert", lambda stack: plan_revert(stack, (), POLICY))
    bench.wait(lambda: second.report.stragglers)
    assert bench.ended == ["apply failed", "revert done"]
    bench.jobs.cancel(second)
    bench.wait(lambda: second.report.state.final)
    assert second.report.state is JobState.CANCELED


def test_a_job_that_is_canceled_while_it_waits_does_nothing(bench: Bench) -> None:
    load = bench.apply(ONE)
    bench.wait(lambda: load.report.stragglers)
    second = bench.apply(TWO)
    bench.jobs.cancel(second)
    bench.jobs.cancel(load)
    bench.wait(lambda: len(bench.ended) == 2)
    assert bench.ended == ["apply canceled", "apply canceled"]
    assert "load klp_two" not in bench.kernel.calls


@pytest.mark.parametrize("state", [JobState.AUTHORIZING, JobState.WAITING])
def test_a_job_that_has_not_begun_is_dropped_at_once(bench: Bench, state: JobState) -> None:
    load = bench.apply(ONE)
    bench.wait(lambda: load.report.stragglers)
    job = bench.jobs.new("apply", "apply klp_two", lambda: plan_apply(bench.kernel.now, TWO, POLICY), uid=0)
    if state is JobState.WAITING:
        bench.jobs.enqueue(job)
        assert job.report.message == "waiting for job 1: apply klp_one; klpctl jobs lists them"
    assert job.report.state is state
    bench.jobs.cancel(job)
    assert (job.report.state, job.report.message) == (JobState.CANCELED, "canceled before it began")
    with pytest.raises(UsageError, match="job 2 has ended already: canceled"):
        bench.jobs.cancel(job)
    # polkit may answer later, whatever it has to say.
    bench.jobs.enqueue(job)
    job.finish(NotAuthorizedError("polkit does not allow org.klpd1.apply to this caller"))
    assert job.report.state is JobState.CANCELED
    bench.jobs.cancel(load)
    bench.wait(lambda: len(bench.ended) == 2)
    assert bench.ended == ["apply canceled", "apply canceled"]
    assert "load klp_two" not in bench.kernel.calls


def test_dropped_jobs_leave_room_for_others(bench: Bench) -> None:
    load = bench.apply(ONE)
    bench.wait(lambda: load.report.stragglers)
    for _each in range(200):
        bench.jobs.cancel(bench.apply(TWO))


@pytest.mark.parametrize("way_out", [Bench.revert, Bench.force])
def test_however_many_wait_what_ends_the_transition_does_not(bench: Bench, way_out: Callable[[Bench], Job]) -> None:
    load = bench.apply(ONE)
    bench.wait(lambda: load.report.stragglers)
    waiting = [bench.apply(TWO) for _each in range(63)]
    with pytest.raises(LimitError, match="64 jobs of yours"):
        bench.apply(TWO)
    # Neither others nor klpd itself are kept out by that.
    waiting.append(bench.ask("apply", lambda stack: plan_apply(stack, TWO, POLICY), uid=1000))
    waiting.append(bench.ask("disable", lambda stack: plan_disable(stack, "klp_two", POLICY), uid=None))
    out = way_out(bench)
    bench.wait(lambda: out.report.state.final)
    assert out.report.state is JobState.DONE
    assert all(not each.report.state.final for each in waiting)


def test_a_way_out_that_was_meant_for_another_transition_is_told_so_at_once(bench: Bench) -> None:
    load = bench.apply(ONE)
    bench.wait(lambda: load.report.stragglers)

    def refuse(_stack: Stack) -> Plan:
        raise UsageError("the transition that runs is not that of klp_two, but of klp_one")

    force = bench.ask("force", refuse)
    bench.wait(lambda: force.report.state.final)
    assert (force.report.state, load.report.state) == (JobState.FAILED, JobState.RUNNING)


KEPT = {1: StateRule(1, ALLOW.rule, rulings={Way.REVERSE: Ruling(Permission.DENY, ALLOW.rule)})}


def kept(bench: Bench) -> Livepatch:
    """klp_one with a state whose introduction KEPT does not let be reversed."""
    bench.kernel.files["klp_one"] = replace(ONE, states=(State(1, 1),))
    return bench.kernel.files["klp_one"]


def test_what_was_vetoed_when_it_took_too_long_is_done_once_the_policy_allows_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurried = replace(POLICY, transition=TransitionRules(timeout=0.0))
    bench.policy = replace(hurried, states=KEPT)
    load = bench.apply(kept(bench))
    bench.wait(lambda: load.report.message)
    assert "reverse of klp_one is refused" in (load.report.message or "")
    bench.wait_for(lambda: (found := bench.jobs.waiting_for("klp_one")) and found[1].refused)
    judged: list[str] = []

    def counting(stack: Stack, action: Action, policy: Policy) -> Verdict:
        judged.append(type(action).__name__)
        return judge(stack, action, policy)

    monkeypatch.setattr("klpd.daemon.judged.judge", counting)
    looks = bench.kernel.looks
    bench.wait_for(lambda: bench.kernel.looks > looks + 20)
    assert judged == []  # nothing has changed, and so nothing is judged again
    bench.policy = hurried
    bench.wait(lambda: load.report.state.final)
    assert load.report.error == "org.klpd1.Error.TimedOut"


def test_a_transition_keeps_its_time_over_a_restart(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr("klpd.daemon.course.time.monotonic", lambda: clock[0])
    bench.policy = replace(POLICY, transition=TransitionRules(timeout=300.0))
    load = bench.apply(ONE)
    bench.wait(lambda: load.report.stragglers)
    clock[0] += 200
    bench.restart()
    (again,) = bench.resumed
    bench.wait(lambda: again.report.stragglers)
    clock[0] += 99
    looks = bench.kernel.looks
    bench.wait_for(lambda: bench.kernel.looks > looks + 5)
    assert again.report.state is JobState.RUNNING
    clock[0] += 2
    bench.wait(lambda: again.report.state.final)
    assert again.report.error == "org.klpd1.Error.TimedOut"


def test_who_was_asked_to_end_is_so_after_a_restart(bench: Bench) -> None:
    bench.policy = replace(POLICY, states=KEPT)
    load = bench.apply(kept(bench))
    bench.wait(lambda: load.report.stragglers)
    bench.jobs.cancel(load)
    bench.wait(lambda: load.report.message)
    bench.restart()
    bench.policy = POLICY
    (again,) = bench.resumed
    bench.wait(lambda: again.report.state.final)
    assert again.report.state is JobState.CANCELED


def test_two_who_take_a_transition_back_at_once_do_not_undo_each_other(bench: Bench) -> None:
    bench.kernel.reversal_lasting = None
    load = bench.apply(ONE)
    bench.wait(lambda: load.report.stragglers)
    asked = bench.kernel.now.transition

    def plan(stack: Stack) -> Plan:
        _check_same_transition(asked, stack.transition)
        return plan_revert(stack, (), POLICY)

    first, second = bench.ask("revert", plan), bench.ask("revert", plan)
    bench.wait(lambda: second.report.state.final)
    assert "was reversed by somebody else before" in (second.report.message or "")
    bench.kernel.settle()
    bench.wait(lambda: first.report.state.final)
    assert bench.kernel.now.livepatches == ()


def test_a_disable_can_be_taken_back_and_so_can_what_was_done_before_it(bench: Bench) -> None:
    bench.kernel.lasting = 0
    planning = bench.planning()

    def revert() -> Job:
        return bench.ask("revert", lambda _stack: planning.revert_as_asked("", None))

    def done(job: Job) -> tuple[str, ...]:
        bench.wait(lambda: job.report.state.final)
        assert job.report.state is JobState.DONE, job.report.message
        return tuple(each.name for each in bench.kernel.now.livepatches)

    assert [done(bench.apply(ONE)), done(bench.disable(ONE)), done(revert())] == [("klp_one",), (), ("klp_one",)]
    assert done(revert()) == ()
    last = revert()
    bench.wait(lambda: last.report.state.final)
    assert "there is no change to undo" in (last.report.message or "")


def test_a_job_that_is_refused_lets_go_of_what_was_handed_over_for_it(bench: Bench) -> None:
    def prepare() -> Plan:
        raise AssertionError("it is not authorized")

    handed_over = weakref.ref(prepare)
    job = bench.jobs.new("apply", "apply klp_one", prepare)
    del prepare
    assert handed_over() is not None
    job.finish(NotAuthorizedError("polkit does not allow org.klpd1.apply to this caller"))
    assert handed_over() is None


def test_of_several_livepatches_those_that_are_in_force_already_are_told(bench: Bench) -> None:
    bench.kernel.lasting = 0
    bench.kernel.install(ONE)
    job = bench.ask("apply", lambda stack: plan_apply_all(stack, [ONE, TWO], POLICY))
    bench.wait(lambda: bench.ended)
    assert (bench.ended, job.report.message) == (["apply done"], "in force already: klp_one")
    assert bench.kernel.calls == ["load klp_two"]


def test_a_job_in_the_end_tells_where_what_it_loaded_has_no_effect_yet(bench: Bench) -> None:
    bench.kernel.lasting = 0
    objects = (InstalledObject(VMLINUX, (), patched=True), InstalledObject("nf_tables", (), patched=False))

    def loaded(_looks: int) -> None:
        now = bench.kernel.now
        bench.kernel.now = replace(now, livepatches=tuple(replace(each, objects=objects) for each in now.livepatches))

    bench.kernel.on_look = loaded
    job = bench.apply(ONE)
    bench.wait(lambda: bench.ended)
    told = "klp_one waits for nf_tables, not loaded now, to take effect there"
    assert (bench.ended, job.report.message) == (["apply done"], told)
