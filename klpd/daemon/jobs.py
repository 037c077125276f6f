# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs: what somebody asked klpd to do to the kernel.  One at a time does it, on a thread of its own; others queue."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from klpd.daemon.sequence import CanceledError, Sequence, veto
from klpd.errors import INTERNAL_ERROR, JobError, KlpdError, LimitError
from klpd.judge.verdict import obstructs
from klpd.model import Force, Reverse
from klpd.report import JobReport, JobState, StepReport, StepState

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.daemon.running import Kernel
    from klpd.daemon.store import Store
    from klpd.daemon.unfinished import SavedJob, Unfinished
    from klpd.judge.planner import Plan
    from klpd.judge.rules import Policy
    from klpd.report import Straggler

log = logging.getLogger(__name__)

_MOST_UNFINISHED: Final = 64
_ON_TRANSITIONS: Final = ("revert", "force")
"""The kinds of jobs that may be about the running transition."""


class Job:
    """One job; `report` is always whole, from whichever thread it is looked at."""

    def __init__(self, report: JobReport, prepare: Callable[[], Plan], changed: Callable[[Job], None]) -> None:
        self.report = report
        self.prepare = prepare
        self.plan: Plan | None = None
        self.resumed: SavedJob | None = None
        self.cancel = threading.Event()
        self._changed = changed

    def set_state(self, state: JobState) -> None:
        self._set(replace(self.report, state=state))

    def asked_by(self, uid: int) -> None:
        """Take note of who asks for it."""
        self._set(replace(self.report, uid=uid))

    def planned(self, plan: Plan) -> None:
        """Take over the plan's goal and steps."""
        self.plan = plan
        steps = tuple(StepReport(each.verdict, StepState.PENDING) for each in plan.steps)
        self._set(replace(self.report, goal=plan.goal, steps=steps))

    def step(self, index: int, state: StepState) -> None:
        steps = list(self.report.steps)
        steps[index] = replace(steps[index], state=state)
        self._set(replace(self.report, steps=tuple(steps), progress=0.0, stragglers=()))

    def progress(self, part: float, stragglers: tuple[Straggler, ...]) -> None:
        if (part, stragglers) != (self.report.progress, self.report.stragglers):
            self._set(replace(self.report, progress=part, stragglers=stragglers))

    def reversing(self) -> None:
        self.set_state(JobState.REVERSING)

    def note(self, message: str) -> None:
        self._set(replace(self.report, message=message))

    def finish(self, error: Exception | None = None, message: str | None = None) -> None:
        """End the job, well or with an error, and let go of what it was made for: files that were handed over, say."""
        self.prepare = _over
        if error is None:
            message = message or self.report.message
            self._set(replace(self.report, state=JobState.DONE, progress=1.0, stragglers=(), message=message))
            return
        name, text = KlpdError.dbus_name, INTERNAL_ERROR
        if isinstance(error, KlpdError):
            name, text = error.dbus_name, str(error)
        else:
            log.error("job %d failed", self.report.id, exc_info=error)
        state = JobState.CANCELED if isinstance(error, CanceledError) else JobState.FAILED
        self._set(replace(self.report, state=state, stragglers=(), error=name, message=text))

    def _set(self, report: JobReport) -> None:
        self.report = report
        self._changed(self)


def _over() -> Plan:
    raise JobError("the job is over")


class Jobs:
    """The queue of jobs and the thread that works it off, one after another.

    What is asked of the running transition itself, to reverse or to force it, cannot wait for the job that waits for
    its end: that has its turn in the midst of the other one.

    `approved` is told the digest of each livepatch that a job loaded and that every rule allows.
    `changed` is called, from any thread, whenever a job's report is another; `ended` on the worker's thread, after a
    job has done to the kernel whatever it did and before its last report.
    """

    def __init__(
        self,
        kernel: Kernel,
        policy: Callable[[], Policy],
        store: Store,
        unfinished: Unfinished,
        *,
        changed: Callable[[Job], None],
        ended: Callable[[], object],
    ) -> None:
        self._kernel = kernel
        self._policy = policy
        self._store = store
        self._unfinished_file = unfinished
        self._changed = changed
        self._ended = ended
        self._queue: deque[Job] = deque()
        self._queued = threading.Condition()
        self._last_id = unfinished.last_id
        self._unfinished: set[int] = set()
        threading.Thread(target=self._work, name="jobs", daemon=True).start()

    def new(self, kind: str, goal: str, prepare: Callable[[], Plan]) -> Job:
        """A job that waits for its authorization; `prepare` makes its plan when its turn has come.

        Raises LimitError where too many jobs wait already.
        """
        if len(self._unfinished) >= _MOST_UNFINISHED:
            raise LimitError(f"{_MOST_UNFINISHED} jobs wait already; let some of them end first")
        self._last_id += 1
        job = Job(JobReport(self._last_id, kind, goal, JobState.AUTHORIZING), prepare, self._job_changed)
        self._unfinished.add(self._last_id)
        return job

    def enqueue(self, job: Job) -> None:
        """Let an authorized job take its turn."""
        if job.resumed is None:
            job.set_state(JobState.WAITING)
        with self._queued:
            self._queue.append(job)
            self._queued.notify()
        self._kernel.wake()

    def resume(self, saved: SavedJob) -> Job:
        """A job that a former klpd left unfinished, to be enqueued; it tells at once how it was."""
        job = Job(saved.report, lambda: saved.plan(self._store.find), self._job_changed)
        job.resumed = saved
        self._unfinished.add(saved.report.id)
        return job

    def cancel(self, job: Job) -> None:
        """Ask a job to end early."""
        job.cancel.set()
        self._kernel.wake()

    def _job_changed(self, job: Job) -> None:
        if job.report.state.final:
            self._unfinished.discard(job.report.id)
        self._unfinished_file.note(job.report, job.plan)
        self._changed(job)

    def _work(self) -> None:
        while True:
            with self._queued:
                self._queued.wait_for(lambda: self._queue)
                job = self._queue.popleft()
            self._carry_out(job, partial(self._run, job))

    def _carry_out(self, job: Job, run: Callable[[], str | None]) -> None:
        error: Exception | None = None
        message: str | None = None
        try:
            message = run()
        except Exception as caught:
            error = caught
        try:
            self._ended()
        except Exception:
            log.exception("the stack could not be looked at after job %d", job.report.id)
        job.finish(error, message)

    def _run(self, job: Job) -> str | None:
        if job.cancel.is_set():
            raise CanceledError("canceled before it began")
        if job.resumed is None:
            job.set_state(JobState.RUNNING)
        return self._follow(job, self._plan(job))

    def _plan(self, job: Job) -> Plan:
        if job.resumed is not None and not job.resumed.actions:
            raise JobError("klpd was restarted before the job began; ask for it again")
        return job.prepare()

    def _follow(self, job: Job, plan: Plan) -> str | None:
        if job.resumed is not None:
            self._resume(job, job.resumed, plan)
            return None
        job.planned(plan)
        policy = self._policy()
        obstacle = next((each.verdict for each in plan.steps if obstructs(each.verdict, policy)), None)
        if obstacle is not None:
            raise veto(obstacle)
        if not plan.steps:
            return "nothing to do: it is so already"
        if plan.already:
            job.note(f"in force already: {', '.join(plan.already)}")
        self._sequence(job).run(plan)
        return None

    def _resume(self, job: Job, saved: SavedJob, plan: Plan) -> None:
        job.plan = plan
        sequence = self._sequence(job)
        if saved.report.state is JobState.REVERSING:
            sequence.end_reversal(plan.steps[saved.begun].action)
        job.set_state(JobState.RUNNING)
        at_rest = frozenset(each.name for each in self._store.history.moments[-1].members)
        sequence.resume(plan, saved.begun, at_rest)

    def _turn_the_transition(self) -> None:
        """Carry out the jobs that wait to reverse or to force the transition that the running job waits for."""
        with self._queued:
            waiting = [each for each in self._queue if each.report.kind in _ON_TRANSITIONS]
        for job in waiting:
            try:
                plan = self._plan(job)
            except KlpdError:
                continue  # it is told so when its turn has come
            if plan.steps and isinstance(plan.steps[0].action, Reverse | Force) and not job.cancel.is_set():
                with self._queued:
                    self._queue.remove(job)
                if job.resumed is None:
                    job.set_state(JobState.RUNNING)
                self._carry_out(job, partial(self._follow, job, plan))

    def _sequence(self, job: Job) -> Sequence:
        return Sequence(
            self._kernel,
            self._policy,
            self._store.read,
            self._store.approve,
            job,
            job.cancel,
            meanwhile=self._turn_the_transition,
        )
