# SPDX-License-Identifier: GPL-2.0-or-later
"""Jobs: what somebody asked klpd to do to the kernel.  One at a time does it, on a thread of its own; others queue."""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

from klpd.daemon.course import CanceledError
from klpd.daemon.judged import JudgedKernel, veto
from klpd.daemon.sequence import Sequence
from klpd.errors import INTERNAL_ERROR, JobError, KernelError, KlpdError, LimitError, UsageError
from klpd.judge.effect import effect_told
from klpd.judge.verdict import obstructs
from klpd.model import Load, Reverse, Stack
from klpd.report import JobReport, JobState, StepReport, StepState

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.daemon.course import Course
    from klpd.daemon.running import Kernel
    from klpd.daemon.store import Store
    from klpd.daemon.unfinished import SavedJob, Unfinished
    from klpd.judge.planner import Plan
    from klpd.judge.rules import Policy
    from klpd.report import Prospect, Straggler

log = logging.getLogger(__name__)

_MOST_UNFINISHED: Final = 64
"""Of one user, and as many again of those that end the transition that the others may wait for."""
_REVERT: Final = "revert"
"""The kind of a job that goes back to what was in force before, or takes back the running transition."""


class Job:
    """One job; `report` is always whole, from whichever thread it is looked at.

    `keep` is to save it, for a klpd that starts anew; `changed` is called when its report is another.
    `on_the_transition`: it is to reverse or to force the transition that ran when it was asked for.
    """

    def __init__(
        self,
        report: JobReport,
        prepare: Callable[[], Plan],
        *,
        keep: Callable[[Job], None],
        changed: Callable[[Job], None],
        on_the_transition: bool = False,
    ) -> None:
        self.report = report
        self.prepare = prepare
        self.on_the_transition = on_the_transition
        self.plan: Plan | None = None
        self.resumed: SavedJob | None = None
        self.cancel = threading.Event()
        self.saved_course: Course | None = None
        self.outlook: Prospect | None = None
        self._keep = keep
        self._changed = changed
        self._lock = threading.Lock()

    @property
    def goes_back(self) -> bool:
        """Whether it is to go back to what was in force before, which the history tells."""
        return self.report.kind == _REVERT and not self.on_the_transition

    def wait(self, message: str | None) -> None:
        """Tell that it waits for its turn, and what for."""
        self._set(replace(self.report, state=JobState.WAITING, message=message))

    def run(self) -> None:
        """Tell that its turn has come."""
        self._set(replace(self.report, state=JobState.RUNNING, message=None))

    def ask_to_end(self) -> None:
        with self._lock:
            if not self.report.state.final:
                self.cancel.set()
                self._keep(self)

    def planned(self, plan: Plan) -> None:
        """Take over the plan's goal and steps."""
        self.plan = plan
        steps = tuple(StepReport(each.verdict, StepState.PENDING) for each in plan.steps)
        self._set(replace(self.report, goal=plan.goal, steps=steps))

    def step(self, index: int, state: StepState) -> None:
        if state is not StepState.RUNNING:
            self.saved_course = None
        steps = list(self.report.steps)
        steps[index] = replace(steps[index], state=state)
        self._set(replace(self.report, steps=tuple(steps), progress=0.0, stragglers=()))

    def progress(self, part: float, stragglers: tuple[Straggler, ...]) -> None:
        if (part, stragglers) != (self.report.progress, self.report.stragglers):
            self._set(replace(self.report, progress=part, stragglers=stragglers))

    def course(self, course: Course) -> None:
        self.saved_course = course
        self._set(replace(self.report, state=JobState.REVERSING if course.reversing else JobState.RUNNING))

    def prospect(self, prospect: Prospect | None) -> None:
        self.outlook = prospect

    def note(self, message: str) -> None:
        self._set(replace(self.report, message=message))

    def finish(self, error: Exception | None = None, message: str | None = None) -> None:
        """End the job, well or with an error, and let go of what it was made for: files that were handed over, say.

        Nothing is done where it has ended already.
        """
        if self.report.state.final:
            return
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
        steps = tuple(
            replace(each, state=StepState.FAILED) if each.state is StepState.RUNNING else each
            for each in self.report.steps
        )
        self._set(replace(self.report, state=state, steps=steps, stragglers=(), error=name, message=text))

    def _set(self, report: JobReport) -> None:
        with self._lock:
            self.report = report
            self._keep(self)
            self._changed(self)


def _over() -> Plan:
    raise JobError("the job is over")


def _nobody() -> bool:
    """Who has a turn while a transition ends that was forced: that is a matter of moments."""
    return False


class Jobs:
    """The queue of jobs and the thread that works it off, one after another.

    What is asked of the running transition itself, to reverse or to force it, cannot wait for the job that waits for
    its end: it is done in the midst of that one.  Where the transition has been turned round so, it is no longer that
    job's, which ends; the one that has turned it round comes next, and follows it.

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
        self._taken_over: tuple[Job, Callable[[], str | None]] | None = None
        self._at_work: Job | None = None
        self._queued = threading.Condition()
        self._last_id = unfinished.last_id
        self._unfinished: dict[int, Job] = {}
        if not any(each.report.kind == _REVERT and each.actions for each in unfinished.jobs):
            store.arrived()  # of a way back that nobody goes on with
        self._thread = threading.Thread(target=self._work, name="jobs", daemon=True)
        self._thread.start()

    def new(
        self,
        kind: str,
        goal: str,
        prepare: Callable[[], Plan],
        *,
        uid: int | None = None,
        on_the_transition: bool = False,
    ) -> Job:
        """A job that waits for its authorization; `prepare` makes its plan when its turn has come.

        `uid` is who asks for it, None klpd itself.  Raises LimitError where too many of his are not over.
        """
        alike = [
            each
            for each in tuple(self._unfinished.values())
            if (each.report.uid, each.on_the_transition) == (uid, on_the_transition)
        ]
        if uid is not None and len(alike) >= _MOST_UNFINISHED:
            raise LimitError(f"{_MOST_UNFINISHED} jobs of yours are not over; let some of them end first")
        self._last_id += 1
        report = JobReport(self._last_id, kind, goal, JobState.AUTHORIZING, uid=uid)
        job = Job(report, prepare, keep=self._keep, changed=self._job_changed, on_the_transition=on_the_transition)
        self._unfinished[self._last_id] = job
        return job

    def enqueue(self, job: Job) -> None:
        """Let an authorized job take its turn; one that has been canceled meanwhile has none."""
        with self._queued:
            if job.report.state.final:
                return
            if job.resumed is not None and not job.resumed.actions:
                job.finish(JobError("klpd was restarted before the job began; ask for it again"))
                return
            if job.resumed is None:
                job.wait(self._what_comes_before(job))
            self._queue.append(job)
            self._queued.notify()
        self._kernel.wake()

    def resume(self, saved: SavedJob) -> Job:
        """A job that a former klpd left unfinished, to be enqueued; it tells at once how it was."""
        job = Job(
            saved.report,
            lambda: saved.plan(self._store.as_loaded),
            keep=self._keep,
            changed=self._job_changed,
            on_the_transition=saved.on_the_transition,
        )
        job.resumed = saved
        job.saved_course = None if saved.course is None else saved.course.course
        if saved.canceled:
            job.cancel.set()
        self._unfinished[saved.report.id] = job
        return job

    def cancel(self, job: Job) -> None:
        """Ask a job to end early.  One that has not begun ends at once.

        Raises UsageError for one that has ended, JobError for one that is taking its transition back already.
        """
        with self._queued:
            state = job.report.state
            dropped = state is JobState.AUTHORIZING or (job.resumed is None and job in self._queue)
            if dropped and state is not JobState.AUTHORIZING:
                self._queue.remove(job)
        if state.final:
            raise UsageError(f"job {job.report.id} has ended already: {state}")
        if state is JobState.REVERSING:
            raise JobError(
                f"job {job.report.id} reverses its transition already; klpctl blockers tells what that waits for, "
                "klpctl force forces it where a rule allows that, and klpctl revert turns it round again"
            )
        if dropped:
            job.finish(CanceledError("canceled before it began"))
        else:
            job.ask_to_end()
            self._kernel.wake()

    def waiting_for(self, livepatch: str) -> tuple[int, Prospect] | None:
        """The job that waits for the transition of this livepatch, and what becomes of that."""
        for job in tuple(self._unfinished.values()):
            outlook = job.outlook
            if outlook is not None and outlook.livepatch == livepatch:
                return job.report.id, outlook
        return None

    def _what_comes_before(self, job: Job) -> str | None:
        before = self._at_work or (self._queue[-1] if self._queue else None)
        if before is None or job.on_the_transition:
            return None
        more = f" and {len(self._queue)} more" if self._queue and before is self._at_work else ""
        return f"waiting for job {before.report.id}{more}: {before.report.goal}; klpctl jobs lists them"

    def _job_changed(self, job: Job) -> None:
        if job.report.state.final:
            self._unfinished.pop(job.report.id, None)
        self._changed(job)

    def _keep(self, job: Job) -> None:
        self._unfinished_file.note(job.report, job.plan, job.saved_course, canceled=job.cancel.is_set())
        if threading.current_thread() is self._thread:
            self._unfinished_file.settle()  # before the next step is taken

    def _work(self) -> None:
        while True:
            with self._queued:
                self._at_work = None
                self._queued.wait_for(lambda: self._taken_over or self._queue)
                job, run = self._next()
                self._at_work = job
            self._carry_out(job, run)

    def _next(self) -> tuple[Job, Callable[[], str | None]]:
        if self._taken_over is not None:
            taken_over, self._taken_over = self._taken_over, None
            return taken_over
        job = self._pop_on_the_transition() or self._queue.popleft()
        return job, partial(self._run, job)

    def _pop_on_the_transition(self) -> Job | None:
        with self._queued:
            job = next((each for each in self._queue if each.on_the_transition), None)
            if job is not None:
                self._queue.remove(job)
            return job

    def _carry_out(self, job: Job, run: Callable[[], str | None]) -> None:
        error: Exception | None = None
        message: str | None = None
        try:
            message = run()
        except Exception as caught:
            error = caught
        self._conclude(job, error, message)

    def _conclude(self, job: Job, error: Exception | None, message: str | None = None) -> None:
        try:
            self._ended()
        except Exception:
            log.exception("the stack could not be looked at after job %d", job.report.id)
        if job.goes_back:
            self._store.arrived()
        job.finish(error, message)

    def _run(self, job: Job) -> str | None:
        if job.resumed is not None:
            self._resume(job, job.resumed)
            return self._effect(job)
        if job.cancel.is_set():
            raise CanceledError("canceled before it began")
        job.run()
        plan = self._accepted_plan(job)
        if not plan.steps:
            return "nothing to do: it is so already"
        self._sequence(job).run(plan)
        return self._effect(job)

    def _effect(self, job: Job) -> str | None:
        """Where what was loaded has no effect yet, as the kernel tells, behind what the job was told before."""
        actions = () if job.plan is None else (each.action for each in job.plan.steps)
        names = [each.livepatch.name for each in actions if isinstance(each, Load)]
        told = [] if job.report.message is None else [job.report.message]
        try:
            stack = self._kernel.stack() if names else Stack()
        except KernelError as error:
            told.append(f"where it is in effect could not be seen: {error}")
        else:
            present = (livepatch for name in names if (livepatch := stack.find(name)) is not None)
            told += [sentence for each in present for sentence in effect_told(each)]
        return "; ".join(told) or None

    def _accepted_plan(self, job: Job) -> Plan:
        """The job's plan, nothing of which is refused; else raises VetoedError."""
        plan = job.prepare()
        job.planned(plan)
        policy = self._policy()
        obstacle = next((each.verdict for each in plan.steps if obstructs(each.verdict, policy)), None)
        if obstacle is not None:
            raise veto(obstacle)
        if plan.already and plan.steps:
            job.note(f"in force already: {', '.join(plan.already)}")
        return plan

    def _resume(self, job: Job, saved: SavedJob, meanwhile: Callable[[], bool] | None = None) -> None:
        job.plan = job.prepare()
        self._sequence(job, meanwhile).resume(job.plan, saved.begun, job.saved_course)

    def _turn_the_transition(self) -> bool:
        """Carry out the jobs that are to reverse or to force the transition that the job at work waits for.

        Whether one of them has turned it round, and is going to follow it.
        """
        while (job := self._pop_on_the_transition()) is not None:
            if self._in_the_midst(job):
                return True
        return False

    def _in_the_midst(self, job: Job) -> bool:
        try:
            following = self._begun_in_the_midst(job)
        except Exception as error:
            self._conclude(job, error)
            return False
        if following is None:
            self._conclude(job, None)
            return False
        self._taken_over = (job, following)
        return True

    def _begun_in_the_midst(self, job: Job) -> Callable[[], str | None] | None:
        """Do what the job is for; what follows the transition to its end, where that is another now."""
        if job.resumed is not None:
            if job.resumed.forces:
                self._resume(job, job.resumed, _nobody)
                return None
            return partial(self._run, job)
        job.run()
        plan = self._accepted_plan(job)
        if isinstance(plan.steps[0].action, Reverse):
            begun = self._sequence(job).begin(plan)
            return lambda: self._sequence(job).go_on(plan, begun)
        self._sequence(job, _nobody).run(plan)
        return None

    def _sequence(self, job: Job, meanwhile: Callable[[], bool] | None = None) -> Sequence:
        return Sequence(
            JudgedKernel(self._kernel, self._policy, self._store.read, self._store.loaded),
            self._store.approve,
            job,
            job.cancel,
            meanwhile=meanwhile or self._turn_the_transition,
        )
