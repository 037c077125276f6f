# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs take their turns, but for what is asked of the transition that another job waits for."""

from __future__ import annotations

import hashlib
import threading
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd.daemon.jobs import Jobs
from klpd.daemon.store import Store
from klpd.daemon.unfinished import Unfinished
from klpd.errors import NotAuthorizedError
from klpd.judge.planner import plan_apply, plan_apply_all, plan_force, plan_revert
from klpd.judge.rules import Mode, Permission, Policy, Ruling, TransitionRules
from klpd.model import Rule, RuleKind
from klpd.report import JobState
from tests.unit.daemon.fake_kernel import FakeKernel, livepatch

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from klpd.daemon.jobs import Job
    from klpd.judge.planner import Plan
    from klpd.model import Livepatch, Stack

ALLOW = Ruling(Permission.ALLOW, Rule(RuleKind.POLICY, "/etc/klpd/policy.d/50-test.toml", 3))
POLICY = Policy(mode=Mode.ENFORCE, default=ALLOW, unknown_states=ALLOW, transition=TransitionRules(force=ALLOW))
SOON = 10.0


def patch(name: str) -> Livepatch:
    return replace(livepatch(name, cumulative=False), digest=hashlib.sha256(name.encode()).hexdigest())


ONE, TWO = patch("klp_one"), patch("klp_two")


class Bench:
    """Jobs on a fake kernel, on which the transition of a load never ends by itself."""

    def __init__(self, folder: Path) -> None:
        self.kernel = FakeKernel({"klp_one": ONE, "klp_two": TWO}, lasting=None)
        self.ended: list[str] = []
        self._changed = threading.Condition()
        self._store = Store(folder)
        for each in (ONE, TWO):
            self._store.add(each, each.name.encode())
        self.jobs = Jobs(
            self.kernel,
            lambda: POLICY,
            self._store,
            Unfinished(folder),
            changed=self._note,
            ended=lambda: None,
        )

    def ask(self, kind: str, plan: Callable[[Stack], Plan]) -> Job:
        about = kind in ("revert", "force") and self.kernel.now.transition is not None
        job = self.jobs.new(kind, kind, lambda: plan(self.kernel.now), uid=0, on_the_transition=about)
        self.jobs.enqueue(job)
        return job

    def apply(self, wanted: Livepatch) -> Job:
        return self.ask("apply", lambda stack: plan_apply(stack, wanted, POLICY))

    def wait(self, until: Callable[[], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(until, SOON)

    def _note(self, job: Job) -> None:
        with self._changed:
            if job.report.state.final:
                self.ended.append(f"{job.report.kind} {job.report.state}")
            self._changed.notify_all()


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
