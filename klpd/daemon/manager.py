# SPDX-License-Identifier: GPL-2.0-or-later
"""The objects on the bus: org.klpd1.Manager, an org.klpd1.Job for each job, an org.klpd1.Livepatch for each livepatch.

This only translates.  Whatever reads a file or the kernel's stack does so on a worker, and the answer comes later.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

from klpd import __version__
from klpd.daemon.authority import AuthenticationNeededError, PolkitAction
from klpd.daemon.bus import read_interface, to_dictionary
from klpd.daemon.job_objects import JobObjects, job_path
from klpd.daemon.livepatch_objects import LivepatchObjects
from klpd.daemon.object_manager import ObjectManager
from klpd.daemon.takeout import TakeOut
from klpd.errors import KlpdError, LimitError, UsageError
from klpd.judge.rules import Permission
from klpd.judge.ways import by_apply
from klpd.plain import to_plain
from klpd.report import (
    APPROVED_FOR,
    LONGEST_APPROVED,
    MANAGER_INTERFACE,
    MANAGER_PATH,
    MANIFESTS,
    PARAMETERS,
    SECONDS,
    PlanReport,
    Status,
    TransitionReport,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

    from klpd.daemon.authority import Authority, Authorization
    from klpd.daemon.bus import Bus
    from klpd.daemon.call import Call
    from klpd.daemon.handed import NamedFile
    from klpd.daemon.jobs import Job, Jobs
    from klpd.daemon.loop import Loop
    from klpd.daemon.planning import Planning
    from klpd.daemon.policies import Policies
    from klpd.daemon.record import Record
    from klpd.daemon.running import Kernel
    from klpd.daemon.standing import StandingApprovals
    from klpd.daemon.unfinished import SavedJob
    from klpd.judge.planner import Plan
    from klpd.model import Drift, Stack
    from klpd.report import Defence, JobReport

_ROOT: Final = 0
_MOST_FOR_OTHERS: Final = 16 << 20
"""Bytes of modules that are read at once for all who are not root, before they are known to be allowed anything."""
_MOST_ASKED_OF_ONE: Final = 8
"""Jobs of one user that wait for polkit."""
_MOST_ASKED: Final = 32
"""And those of all."""

_Answer = TypeVar("_Answer")


class Manager:
    """Serves the bus.

    `reload` reads the policy anew and may raise PolicyError; its result comes when that has its effect.  `defences`
    tells how they are.
    """

    def __init__(
        self,
        *,
        loop: Loop,
        bus: Bus,
        authority: Authority,
        kernel: Kernel,
        policies: Policies,
        planning: Planning,
        record: Record,
        jobs: Jobs,
        standing: StandingApprovals,
        defences: Callable[[], tuple[Defence, ...]],
        drift: Callable[[], tuple[Drift, ...]],
        reload: Callable[[], Future[None]],
        open_guard: Callable[[int], None],
        close_guard: Callable[[int], None],
    ) -> None:
        self._authority = authority
        self._kernel = kernel
        self._policies = policies
        self._planning = planning
        self._record = record
        self._jobs = jobs
        self._standing = standing
        self._defences = defences
        self._drift = drift
        self._reload = reload
        self._open_guard = open_guard
        self._close_guard = close_guard
        self._loop = loop
        self._workers = ThreadPoolExecutor(2, "manager")
        # One at a time, so that root never waits for more than that.
        self._others_worker = ThreadPoolExecutor(1, "others")
        # To ask for a transition's end is nothing that waits for others' questions.
        self._looks = ThreadPoolExecutor(1, "looks")
        self._asked: dict[int, Authorization] = {}
        self._calls: dict[int, Call] = {}
        self._take_out = TakeOut()
        self._moving = ""
        objects = ObjectManager(bus, MANAGER_PATH)
        self._job_objects = JobObjects(loop, objects)
        self._livepatch_objects = LivepatchObjects(objects, self._disable)
        self._object = bus.publish(
            MANAGER_PATH,
            read_interface(MANAGER_INTERFACE),
            {
                "GetStatus": self._get_status,
                "GetTransition": self._get_transition,
                "Check": self._check,
                "PlanApply": self._plan_apply,
                "PlanDisable": lambda call: self._plan(call, partial(self._planning.disable, call.livepatch(0))),
                "PlanRemove": lambda call: self._plan(call, partial(self._planning.remove, call.livepatch(0))),
                "PlanForce": lambda call: self._plan(call, partial(self._planning.force, call.livepatch(0))),
                "PlanRevert": lambda call: self._plan(call, partial(self._planning.revert, call.livepatch(0))),
                "Apply": self._apply,
                "Approve": self._approve,
                "Disable": lambda call: self._disable(call, call.livepatch(0)),
                "Remove": self._remove,
                "Revert": self._revert,
                "Force": self._force,
                "Reload": lambda call: self._authorized(call, PolkitAction.RELOAD, {}, lambda _uid: self._reload()),
                "OpenGuard": lambda call: self._authorized(call, PolkitAction.GUARD, {}, self._open_guard),
                "CloseGuard": lambda call: self._authorized(call, PolkitAction.GUARD, {}, self._close_guard),
            },
            self._properties,
        )

    def job_changed(self, report: JobReport) -> None:
        """Tell the bus that a job's report became this one; to be called on the main loop, in their order."""
        self._job_objects.announce(report)
        if report.state.final:
            authorization = self._asked.pop(report.id, None)
            if authorization is not None:
                authorization.withdraw()
            call = self._calls.pop(report.id, None)
            if call is not None:
                call.close()  # a job that never made its plan has not read what was handed over
            self._take_out.ended(report)
            self._record.job_ended(report)
            self._object.emit("JobRemoved", report.id, job_path(report.id), report.state.value)

    def stack_seen(self, stack: Stack, drift: tuple[Drift, ...]) -> None:
        """Tell the bus what is new of the livepatches in force, and have drift taken out where the policy says so.

        To be called on the main loop.
        """
        self._livepatch_objects.show(stack, drift)
        moving = "" if stack.transition is None else stack.transition.name
        if moving != self._moving:
            self._moving = moving
            self._object.emit_changed({"Transition": moving})
        policy = self._policies.current
        for name in self._take_out.due(drift, stack, policy):
            in_transition = name == moving
            job, _path = self._new_job(
                "disable",
                f"disable {name}",
                partial(self._planning.take_out, name),
                on_the_transition=in_transition,
            )
            self._take_out.begun(name, job.report.id, stack, policy)
            self._jobs.enqueue(job)

    def policy_changed(self) -> None:
        """Tell the bus that another policy is in force, or that one was rejected."""
        self._kernel.wake()  # what was refused may be allowed now
        report = self._policies.report
        self._object.emit_changed({"Mode": report.mode, "PolicyFiles": report.files, "PolicyErrors": report.errors})

    def drift_found(self, drift: Drift) -> None:
        """Tell the bus of drift."""
        self._object.emit("DriftFound", drift.livepatch)

    def take_up(self, saved: SavedJob) -> None:
        """Go on with a job that a former klpd left unfinished."""
        self._jobs.enqueue(self._published(self._jobs.resume(saved))[0])

    def stop(self) -> None:
        self._looks.shutdown(cancel_futures=True)
        self._workers.shutdown(cancel_futures=True)
        self._others_worker.shutdown(cancel_futures=True)

    def _properties(self) -> Mapping[str, object]:
        report = self._policies.report
        return {
            "Version": __version__,
            "Mode": report.mode,
            "Defences": [(each.name, each.state.value, each.detail) for each in self._defences()],
            "PolicyFiles": report.files,
            "PolicyErrors": report.errors,
            "Transition": self._moving,
        }

    def _get_status(self, call: Call) -> Future[object]:
        def status() -> object:
            report = Status(
                version=__version__,
                policy=self._policies.report,
                defences=self._defences(),
                stack=self._kernel.stack(),
                drift=self._drift(),
                approvals=self._standing.all,
            )
            return {**to_dictionary(to_plain(report)), "jobs": self._job_objects.reports}

        return self._workers_for(call).submit(status)

    def _get_transition(self, call: Call) -> Future[object]:
        def transition() -> object:
            stack = self._kernel.stack()
            moving, running = stack.transition, self._kernel.transition(stack)
            if moving is None or running is None:
                return {}
            rules = self._policies.current.transition_of(moving)
            job, prospect = self._jobs.waiting_for(moving.name) or (None, None)
            report = TransitionReport(
                livepatch=running.livepatch,
                goal=running.goal,
                tasks=running.tasks,
                timeout=rules.timeout,
                on_timeout=rules.on_timeout.value,
                may_force=rules.force.permission is Permission.ALLOW,
                stragglers=running.stragglers,
                since=running.since,
                job=job,
                prospect=prospect,
            )
            return to_dictionary(to_plain(report))

        return self._workers_for(call).submit(transition)

    def _check(self, call: Call) -> Future[object]:
        file, name, manifests = call.file(0), call.text(1), call.files_under(2, MANIFESTS)

        def assessment() -> object:
            with closing(call):
                return to_dictionary(to_plain(self._planning.check((file, name), manifests, _budget(call))))

        return self._workers_for(call).submit(assessment)

    def _plan_apply(self, call: Call) -> Future[object]:
        files, manifests, parameters = _to_load(call)
        return self._plan(call, lambda: self._planning.apply(files, manifests, parameters, _budget(call)))

    def _plan(self, call: Call, make: Callable[[], Plan]) -> Future[object]:
        def report() -> object:
            with closing(call):
                plan = make()
            steps = tuple(each.verdict for each in plan.steps)
            outcome = by_apply(plan, self._policies.current).outcome
            return to_dictionary(to_plain(PlanReport(plan.goal, plan.decision, steps, plan.gap, outcome)))

        return self._workers_for(call).submit(report)

    def _workers_for(self, call: Call) -> Executor:
        return self._workers if call.uid == _ROOT else self._others_worker

    def _apply(self, call: Call) -> object:
        files, manifests, parameters = _to_load(call)
        about = ", ".join(" ".join((name, *own)) for (_file, name), own in zip(files, parameters, strict=True))

        def plan(uid: int) -> Plan:
            return self._planning.apply_for(uid, files, manifests, parameters)

        return self._begin(call, "apply", PolkitAction.APPLY, about, plan)

    def _approve(self, call: Call) -> Future[object]:
        file, name, manifests = call.file(0), call.text(1), call.files_under(2, MANIFESTS)
        seconds = call.number_under(2, SECONDS, APPROVED_FOR, LONGEST_APPROVED)

        def approve(uid: int) -> object:
            livepatch = self._planning.approve_for(uid, (file, name), manifests)
            if seconds == 0:
                approval = self._standing.take_back(livepatch)
                self._record.approval_taken_back(approval, uid)
            else:
                approval = self._standing.give(livepatch, name, uid, seconds)
                self._record.approval_given(approval)
            return to_dictionary(to_plain(approval))

        def begin(uid: int) -> Future[object]:
            return self._workers_for(call).submit(approve, uid)

        done = self._authorized(call, PolkitAction.APPROVE, {"livepatch": name}, begin)
        done.add_done_callback(lambda _done: call.close())
        return done

    def _disable(self, call: Call, name: str) -> object:
        return self._begin(call, "disable", PolkitAction.DISABLE, name, lambda _uid: self._planning.disable(name))

    def _remove(self, call: Call) -> object:
        name = call.livepatch(0)
        return self._begin(call, "remove", PolkitAction.DISABLE, name, lambda _uid: self._planning.remove(name))

    def _force(self, call: Call) -> object:
        name = call.livepatch(0)
        on_it: Future[bool] = Future()
        on_it.set_result(True)
        return self._begin(
            call, "force", PolkitAction.FORCE, name, lambda _uid: self._planning.force(name), on_the_transition=on_it
        )

    def _revert(self, call: Call) -> object:
        to, asked = call.livepatch(0), self._looks.submit(self._planning.transition)

        def plan(_uid: int) -> Plan:
            return self._planning.revert_as_asked(to, asked.result())

        on_it = self._looks.submit(lambda: asked.result() is not None)
        return self._begin(call, "revert", PolkitAction.REVERT, to, plan, on_the_transition=on_it)

    def _begin(
        self,
        call: Call,
        kind: str,
        action: PolkitAction,
        about: str,
        prepare: Callable[[int], Plan],
        *,
        on_the_transition: Future[bool] | None = None,
    ) -> Future[object]:
        """The path of a new job; `prepare` makes its plan, for the user who asks.

        Who is not allowed it, whatever he types, gets no job.  `on_the_transition` tells whether it is to end the
        transition that runs now.
        """
        made: Future[object] = Future()

        def begin(*, ask: bool) -> None:
            try:
                if ask:
                    self._check_asked(call.uid)
                # What could not be looked at is told when the plan is made.
                on_it = (
                    on_the_transition is not None and not on_the_transition.exception() and on_the_transition.result()
                )
                goal = f"{kind} {about}".strip()
                job, path = self._new_job(kind, goal, lambda: prepare(call.uid), uid=call.uid, on_the_transition=on_it)
            except KlpdError as error:
                call.close()
                made.set_exception(error)
                return
            self._calls[job.report.id] = call
            if ask:
                self._ask_for(call, action, about, job)
            else:
                self._jobs.enqueue(job)
            made.set_result(path)

        def answered(allowed: Future[None]) -> None:
            error = allowed.exception()
            if error is not None and not (isinstance(error, AuthenticationNeededError) and call.interactive):
                call.close()
                made.set_exception(error)
            elif on_the_transition is None:
                begin(ask=error is not None)
            else:
                on_the_transition.add_done_callback(
                    lambda _done: self._loop.call_soon(lambda: begin(ask=error is not None))
                )

        self._authority.authorize(call, action, {"livepatch": about}, ask=False).answer.add_done_callback(answered)
        return made

    def _check_asked(self, uid: int) -> None:
        """See that few passwords are asked for.  Raises LimitError."""
        asked = [self._calls[number].uid for number in self._asked]
        if asked.count(uid) >= _MOST_ASKED_OF_ONE or len(asked) >= _MOST_ASKED:
            raise LimitError(
                f"{asked.count(uid)} jobs of yours wait for a password, and {len(asked)} in all; cancel some"
            )

    def _ask_for(self, call: Call, action: PolkitAction, about: str, job: Job) -> None:
        """Have a job take its turn once whoever asks for it has shown that he is allowed it."""
        number = job.report.id

        def answered(asked: Future[None]) -> None:
            self._asked.pop(number, None)
            error = asked.exception()
            if error is None:
                self._jobs.enqueue(job)
            else:
                job.finish(error if isinstance(error, Exception) else KlpdError(str(error)))

        authorization = self._authority.authorize(call, action, {"livepatch": about, "job": str(number)})
        self._asked[number] = authorization
        authorization.answer.add_done_callback(answered)

    def _new_job(
        self,
        kind: str,
        goal: str,
        prepare: Callable[[], Plan],
        *,
        uid: int | None = None,
        on_the_transition: bool = False,
    ) -> tuple[Job, str]:
        return self._published(self._jobs.new(kind, goal, prepare, uid=uid, on_the_transition=on_the_transition))

    def _published(self, job: Job) -> tuple[Job, str]:
        path = self._job_objects.publish(job, lambda cancel: self._cancel(cancel, job))
        self._object.emit("JobNew", job.report.id, path)
        return job, path

    def _cancel(self, call: Call, job: Job) -> Future[object]:
        """Whoever asked for a job may cancel it; others need to be authorized."""
        return self._authorized(
            call,
            PolkitAction.CANCEL,
            {"job": str(job.report.id)},
            lambda _uid: self._jobs.cancel(job),
            free_for=job.report.uid,
        )

    def _authorized(
        self,
        call: Call,
        action: PolkitAction,
        details: Mapping[str, str],
        then: Callable[[int], Future[_Answer] | None],
        *,
        free_for: int | None = None,
    ) -> Future[object]:
        """What is done for a caller who is allowed it; the user `free_for` needs no authorization."""
        done: Future[object] = Future()

        def carry_out(asked: Future[None]) -> None:
            try:
                asked.result()
                result = then(call.uid)
                if result is None:
                    done.set_result(None)
                else:
                    result.add_done_callback(lambda ended: _pass_on(ended, done))
            except Exception as error:
                done.set_exception(error)

        if call.uid == free_for:
            allowed: Future[None] = Future()
            allowed.set_result(None)
        else:
            allowed = self._authority.authorize(call, action, details).answer
        allowed.add_done_callback(carry_out)
        return done


def _pass_on(ended: Future[_Answer], done: Future[object]) -> None:
    error = ended.exception()
    if error is None:
        done.set_result(ended.result())
    else:
        done.set_exception(error)


def _to_load(call: Call) -> tuple[Sequence[NamedFile], Sequence[NamedFile], Sequence[tuple[str, ...]]]:
    """The files that a call is to have loaded, the manifests beside them, and the parameters of each file."""
    files, manifests, parameters = call.files(0), call.files_under(1, MANIFESTS), call.words_under(1, PARAMETERS)
    if parameters and len(parameters) != len(files):
        raise UsageError(f"option {PARAMETERS} has {len(parameters)} arrays for {len(files)} files")
    return files, manifests, parameters or ((),) * len(files)


def _budget(call: Call) -> int | None:
    """How many bytes are read for a caller before he is known to be allowed anything; None: as many as it takes."""
    return None if call.uid == _ROOT else _MOST_FOR_OTHERS
