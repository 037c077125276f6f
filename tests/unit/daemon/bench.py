# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs on a kernel that is made up, on which no transition ends by itself unless that is asked for."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from klpd.daemon.jobs import Jobs
from klpd.daemon.planning import Planning
from klpd.daemon.policies import Policies
from klpd.daemon.store import Store
from klpd.daemon.unfinished import Unfinished
from klpd.judge.planner import plan_apply, plan_disable, plan_force, plan_revert
from klpd.judge.rules import Mode, Permission, Policy, Ruling, TransitionRules
from klpd.judge.ways import Gate
from klpd.layout import known_layout
from klpd.model import Rule, RuleKind
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
    """klpd's jobs, for as long as it lives."""

    def __init__(self, folder: Path) -> None:
        self.kernel = FakeKernel({"klp_one": ONE, "klp_two": TWO}, lasting=None)
        self.kernel.on_look = self._looked
        self.policy = POLICY
        self.ended: list[str] = []
        self._folder = folder
        self._changed = threading.Condition()
        self._dead: set[threading.Thread] = set()
        self._parked = threading.Semaphore(0)
        self.store = Store(folder)
        for each in (ONE, TWO):
            self.store.add(each, each.name.encode())
        self._start()

    def _start(self) -> None:
        self.store = Store(self._folder)
        unfinished = Unfinished(self._folder)
        saved = unfinished.jobs
        before = set(threading.enumerate())
        self.jobs = Jobs(
            self.kernel,
            lambda: self.policy,
            self.store,
            unfinished,
            changed=self._note,
            ended=lambda: self.store.observe(self.kernel.now) if self.kernel.now.transition is None else None,
        )
        (self._worker,) = (each for each in set(threading.enumerate()) - before if each.name == "jobs")
        self.resumed = [self.jobs.resume(each) for each in saved]
        for each in self.resumed:
            self.jobs.enqueue(each)

    def restart(self) -> None:
        """klpd dies, wherever it is, and another one starts."""
        self._dead.add(self._worker)
        assert self._parked.acquire(timeout=SOON)
        self._start()

    def _looked(self, _looks: int) -> None:
        if threading.current_thread() in self._dead:
            self._parked.release()
            threading.Event().wait()
        time.sleep(0.001)

    def ask(self, kind: str, plan: Callable[[Stack], Plan], *, uid: int | None = 0) -> Job:
        about = kind in ("revert", "force") and self.kernel.now.transition is not None
        job = self.jobs.new(kind, kind, lambda: plan(self.kernel.now), uid=uid, on_the_transition=about)
        self.jobs.enqueue(job)
        return job

    def apply(self, wanted: Livepatch) -> Job:
        return self.ask("apply", lambda stack: plan_apply(stack, wanted, self.policy))

    def disable(self, wanted: Livepatch) -> Job:
        return self.ask("disable", lambda stack: plan_disable(stack, wanted.name, self.policy))

    def revert(self) -> Job:
        return self.ask("revert", lambda stack: plan_revert(stack, (), self.policy))

    def force(self) -> Job:
        return self.ask("force", lambda stack: plan_force(stack, "klp_one", self.policy))

    def wait(self, until: Callable[[], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(until, SOON)

    def wait_for(self, until: Callable[[], object]) -> None:
        """For what no job tells of."""
        deadline = time.monotonic() + SOON
        while not until():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def planning(self) -> Planning:
        policies = Policies(lambda: self.policy)
        policies.load()
        return Planning(
            self.kernel,
            policies,
            self.store,
            known_layout,
            lambda _livepatch, _data: None,
            watched=lambda _fd: False,
            gate=lambda: Gate.CLOSED,
        )

    def _note(self, job: Job) -> None:
        with self._changed:
            if job.report.state.final:
                self.ended.append(f"{job.report.kind} {job.report.state}")
            self._changed.notify_all()
