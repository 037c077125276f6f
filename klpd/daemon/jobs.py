# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs: what somebody asked klpd to do to the kernel.  One at a time does it, on a thread of its own; others queue."""

from __future__ import annotations

import logging
import queue
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from klpd.daemon.sequence import CanceledError, Sequence, veto
from klpd.errors import INTERNAL_ERROR, KlpdError, LimitError
from klpd.judge.verdict import obstructs
from klpd.report import JobReport, JobState, StepReport, StepState

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.daemon.running import Kernel
    from klpd.judge.planner import Plan
    from klpd.judge.rules import Policy
    from klpd.report import Straggler

log = logging.getLogger(__name__)

_MOST_UNFINISHED: Final = 64


class Job:
    """One job; `report` is always whole, from whichever thread it is looked at."""

    def __init__(
        self, job_id: int, kind: str, goal: str, prepare: Callable[[], Plan], changed: Callable[[Job], None]
    ) -> None:
        self.report = JobReport(job_id, kind, goal, JobState.AUTHORIZING)
        self.prepare = prepare
        self.cancel = threading.Event()
        self._changed = changed

    def set_state(self, state: JobState) -> None:
        self._set(replace(self.report, state=state))

    def planned(self, plan: Plan) -> None:
        """Take over the plan's goal and steps."""
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
        """End the job, well or with an error."""
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


class Jobs:
    """The queue of jobs and the thread that works it off.

    `approved` is told the digest of each livepatch that a job loaded and that every rule allows.
    `changed` is called, from any thread, whenever a job's report is another; `ended` on the worker's thread, after a
    job has done to the kernel whatever it did and before its last report.
    """

    def __init__(
        self,
        kernel: Kernel,
        policy: Callable[[], Policy],
        data_of: Callable[[str], bytes],
        *,
        approved: Callable[[str], None],
        changed: Callable[[Job], None],
        ended: Callable[[], object],
    ) -> None:
        self._kernel = kernel
        self._policy = policy
        self._data_of = data_of
        self._approved = approved
        self._changed = changed
        self._ended = ended
        self._queue: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._last_id = 0
        self._unfinished: set[int] = set()
        threading.Thread(target=self._work, name="jobs", daemon=True).start()

    def new(self, kind: str, goal: str, prepare: Callable[[], Plan]) -> Job:
        """A job that waits for its authorization; `prepare` makes its plan when its turn has come.

        Raises LimitError where too many jobs wait already.
        """
        if len(self._unfinished) >= _MOST_UNFINISHED:
            raise LimitError(f"{_MOST_UNFINISHED} jobs wait already; let some of them end first")
        self._last_id += 1
        job = Job(self._last_id, kind, goal, prepare, self._job_changed)
        self._unfinished.add(self._last_id)
        return job

    def enqueue(self, job: Job) -> None:
        """Let an authorized job take its turn."""
        job.set_state(JobState.WAITING)
        self._queue.put(job)

    def _job_changed(self, job: Job) -> None:
        if job.report.state.final:
            self._unfinished.discard(job.report.id)
        self._changed(job)

    def _work(self) -> None:
        while True:
            job = self._queue.get()
            error: Exception | None = None
            message: str | None = None
            try:
                message = self._run(job)
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
        job.set_state(JobState.RUNNING)
        plan = job.prepare()
        job.planned(plan)
        policy = self._policy()
        obstacle = next((each.verdict for each in plan.steps if obstructs(each.verdict, policy)), None)
        if obstacle is not None:
            raise veto(obstacle)
        if not plan.steps:
            return "nothing to do: it is so already"
        Sequence(self._kernel, self._policy, self._data_of, self._approved, job, job.cancel).run(plan)
        return None
