# SPDX-License-Identifier: GPL-2.0-or-later
"""The objects on the bus: org.klpd1.Manager, an org.klpd1.Job for each job, an org.klpd1.Livepatch for each livepatch.

This only translates.  Whatever reads a file or the kernel's stack does so on a worker, and the answer comes later.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from klpd import __version__
from klpd.daemon.authority import PolkitAction
from klpd.daemon.bus import read_interface, to_dictionary
from klpd.daemon.handed import read_files
from klpd.daemon.job_objects import JobObjects, job_path
from klpd.daemon.livepatch_objects import LivepatchObjects
from klpd.daemon.object_manager import ObjectManager
from klpd.errors import JobError, KlpdError, NoSuchLivepatchError, UsageError
from klpd.judge.planner import plan_apply_all, plan_disable, plan_force, plan_remove, plan_revert
from klpd.judge.rules import Mode, OnDrift, Permission
from klpd.judge.verdict import judge
from klpd.model import Load
from klpd.plain import to_plain
from klpd.report import MANAGER_INTERFACE, MANAGER_PATH, MANIFESTS, PlanReport, Status, TransitionReport

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from klpd.daemon.authority import Authority
    from klpd.daemon.bus import Bus
    from klpd.daemon.call import Call
    from klpd.daemon.handed import HandedOver, NamedFile
    from klpd.daemon.jobs import Job, Jobs
    from klpd.daemon.loop import Loop
    from klpd.daemon.policies import Policies
    from klpd.daemon.record import Record
    from klpd.daemon.running import Kernel
    from klpd.daemon.store import History, Moment, Store
    from klpd.daemon.unfinished import SavedJob
    from klpd.judge.planner import Plan
    from klpd.model import Drift, Installed, Livepatch, Stack
    from klpd.report import Defence, JobReport

ORIGINAL: Final = "original"
"""What `to` says for the unpatched kernel."""


class Manager:
    """Serves the bus.

    `remember` keeps a livepatch that is to be loaded; `reload` reads the policy anew and may raise PolicyError;
    `defences` tells how they are.
    """

    def __init__(
        self,
        *,
        loop: Loop,
        bus: Bus,
        authority: Authority,
        kernel: Kernel,
        policies: Policies,
        store: Store,
        remember: Callable[[Livepatch, bytes], None],
        record: Record,
        jobs: Jobs,
        defences: Callable[[], tuple[Defence, ...]],
        drift: Callable[[], tuple[Drift, ...]],
        reload: Callable[[], None],
        open_guard: Callable[[int], None],
        close_guard: Callable[[int], None],
    ) -> None:
        self._authority = authority
        self._kernel = kernel
        self._policies = policies
        self._store = store
        self._remember = remember
        self._record = record
        self._jobs = jobs
        self._defences = defences
        self._drift = drift
        self._reload = reload
        self._open_guard = open_guard
        self._close_guard = close_guard
        self._workers = ThreadPoolExecutor(2, "manager")
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
                "PlanDisable": lambda call: self._plan(lambda: self._disabling(call.text(0))),
                "PlanRemove": lambda call: self._plan(lambda: self._removing(call.text(0))),
                "PlanForce": lambda call: self._plan(lambda: self._forcing(call.text(0))),
                "PlanRevert": lambda call: self._plan(lambda: self._reverting(call.text(0), self._kernel.stack())),
                "Apply": self._apply,
                "Disable": lambda call: self._disable(call, call.text(0)),
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
            self._record.job_ended(report)
            self._object.emit("JobRemoved", report.id, job_path(report.id), report.state.value)

    def stack_seen(self, stack: Stack, drift: tuple[Drift, ...]) -> None:
        """Tell the bus what is new of the livepatches in force; to be called on the main loop."""
        self._livepatch_objects.show(stack, drift)
        moving = "" if stack.transition is None else stack.transition.name
        if moving != self._moving:
            self._moving = moving
            self._object.emit_changed({"Transition": moving})

    def policy_changed(self) -> None:
        """Tell the bus that another policy is in force, or that one was rejected."""
        report = self._policies.report
        self._object.emit_changed({"Mode": report.mode, "PolicyFiles": report.files, "PolicyErrors": report.errors})

    def drift_found(self, drift: Drift) -> None:
        """Tell the bus of drift and, where the policy says so, have it taken out."""
        self._object.emit("DriftFound", drift.livepatch)
        policy = self._policies.current
        if policy.on_drift is OnDrift.DISABLE and policy.mode is Mode.ENFORCE:
            job, _path = self._new_job(
                "disable", f"disable {drift.livepatch}", lambda: self._disabling(drift.livepatch)
            )
            self._jobs.enqueue(job)

    def take_up(self, saved: SavedJob) -> None:
        """Go on with a job that a former klpd left unfinished."""
        self._jobs.enqueue(self._published(self._jobs.resume(saved))[0])

    def stop(self) -> None:
        self._workers.shutdown(cancel_futures=True)

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

    def _get_status(self, _call: Call) -> Future[object]:
        def status() -> object:
            return to_dictionary(
                to_plain(
                    Status(
                        version=__version__,
                        policy=self._policies.report,
                        defences=self._defences(),
                        stack=self._kernel.stack(),
                        jobs=self._job_objects.reports,
                        drift=self._drift(),
                    )
                )
            )

        return self._workers.submit(status)

    def _get_transition(self, _call: Call) -> Future[object]:
        def transition() -> object:
            stack = self._kernel.stack()
            moving, running = stack.transition, self._kernel.transition(stack)
            if moving is None or running is None:
                return {}
            rules = self._policies.current.transition_of(moving)
            report = TransitionReport(
                livepatch=running.livepatch,
                goal=running.goal,
                tasks=running.tasks,
                timeout=rules.timeout,
                on_timeout=rules.on_timeout.value,
                may_force=rules.force.permission is Permission.ALLOW,
                stragglers=running.stragglers,
                since=running.since,
            )
            return to_dictionary(to_plain(report))

        return self._workers.submit(transition)

    def _check(self, call: Call) -> Future[object]:
        file, name, manifests = call.file(0), call.text(1), call.files_under(2, MANIFESTS)

        def verdict() -> object:
            (handed,) = self._handed([(file, name)], manifests)
            return to_dictionary(to_plain(judge(self._kernel.stack(), Load(handed.livepatch), self._policies.current)))

        return self._workers.submit(verdict)

    def _plan_apply(self, call: Call) -> Future[object]:
        files, manifests = call.files(0), call.files_under(1, MANIFESTS)

        def plan() -> Plan:
            handed = self._handed(files, manifests)
            return plan_apply_all(self._kernel.stack(), [each.livepatch for each in handed], self._policies.current)

        return self._plan(plan)

    def _handed(self, files: Sequence[NamedFile], manifests: Sequence[NamedFile]) -> tuple[HandedOver, ...]:
        return read_files(files, manifests, self._store.find)

    def _plan(self, make: Callable[[], Plan]) -> Future[object]:
        def report() -> object:
            plan = make()
            steps = tuple(each.verdict for each in plan.steps)
            return to_dictionary(to_plain(PlanReport(plan.goal, plan.decision, steps, plan.gap)))

        return self._workers.submit(report)

    def _apply(self, call: Call) -> object:
        files, manifests = call.files(0), call.files_under(1, MANIFESTS)

        def plan(uid: int) -> Plan:
            handed = self._handed(files, manifests)
            for each in handed:
                each.check_author(uid)
            for each in handed:
                self._remember(each.livepatch, each.data)
            return plan_apply_all(self._kernel.stack(), [each.livepatch for each in handed], self._policies.current)

        return self._begin(call, "apply", PolkitAction.APPLY, ", ".join(name for _file, name in files), plan)

    def _disable(self, call: Call, name: str) -> object:
        return self._begin(call, "disable", PolkitAction.DISABLE, name, lambda _uid: self._disabling(name))

    def _remove(self, call: Call) -> object:
        name = call.text(0)
        return self._begin(call, "remove", PolkitAction.DISABLE, name, lambda _uid: self._removing(name))

    def _force(self, call: Call) -> object:
        name = call.text(0)
        return self._begin(call, "force", PolkitAction.FORCE, name, lambda _uid: self._forcing(name))

    def _revert(self, call: Call) -> object:
        to, asked = call.text(0), self._workers.submit(lambda: self._kernel.stack().transition)

        def plan(_uid: int) -> Plan:
            stack = self._kernel.stack()
            _check_same_transition(asked.result(), stack.transition)
            return self._reverting(to, stack)

        return self._begin(call, "revert", PolkitAction.REVERT, to, plan)

    def _disabling(self, name: str) -> Plan:
        return plan_disable(self._stack_with(name), name, self._policies.current)

    def _removing(self, name: str) -> Plan:
        return plan_remove(self._stack_with(name), name, self._policies.current)

    def _stack_with(self, name: str) -> Stack:
        stack = self._kernel.stack()
        if stack.find(name) is None and stack.leftover(name) is None:
            raise NoSuchLivepatchError(f"no livepatch named {name} is installed; klpctl status lists those that are")
        return stack

    def _forcing(self, name: str) -> Plan:
        stack = self._kernel.stack()
        moving = stack.transition
        if moving is None:
            raise UsageError("no transition runs, and so there is none to be forced")
        if name not in ("", moving.name):
            raise UsageError(f"the transition that runs is not that of {name}, but of {moving.name}")
        return plan_force(stack, moving.name, self._policies.current)

    def _reverting(self, to: str, stack: Stack) -> Plan:
        wanted = () if stack.transition is not None else self._wanted(stack, to)
        return plan_revert(stack, wanted, self._policies.current)

    def _wanted(self, stack: Stack, to: str) -> tuple[Livepatch, ...]:
        if to == ORIGINAL:
            return ()
        self._store.observe(stack)
        history = self._store.history
        moment = history.newest(to) if to else history.before
        if moment is None:
            raise _nowhere(to, history)
        return self._remembered(moment)

    def _remembered(self, moment: Moment) -> tuple[Livepatch, ...]:
        wanted = []
        for member in moment.members:
            livepatch = None if member.digest is None else self._store.find(member.digest)
            if livepatch is None:
                raise KlpdError(
                    f"klpd never saw the file of {member.name}, or has it no more, and so cannot load it again; "
                    "apply it from its file: klpctl apply FILE"
                )
            wanted.append(livepatch)
        return tuple(wanted)

    def _begin(self, call: Call, kind: str, action: PolkitAction, about: str, prepare: Callable[[int], Plan]) -> str:
        """`prepare` makes the plan, for the user who asks."""
        job, path = self._new_job(kind, f"{kind} {about}".strip(), lambda: prepare(authorization.result()))

        def authorized(asked: Future[int]) -> None:
            error = asked.exception()
            if error is None:
                self._jobs.enqueue(job)
            else:
                job.finish(error if isinstance(error, Exception) else KlpdError(str(error)))

        def identified(asked: Future[int]) -> None:
            if asked.exception() is None:
                job.asked_by(asked.result())

        self._authority.identify(call).add_done_callback(identified)
        details = {"livepatch": about, "job": str(job.report.id)}
        authorization = self._authority.authorize(call, action, details)
        authorization.add_done_callback(authorized)
        return path

    def _new_job(self, kind: str, goal: str, prepare: Callable[[], Plan]) -> tuple[Job, str]:
        return self._published(self._jobs.new(kind, goal, prepare))

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
            free_for=lambda uid: uid == job.report.uid,
        )

    def _authorized(
        self,
        call: Call,
        action: PolkitAction,
        details: Mapping[str, str],
        then: Callable[[int], None],
        *,
        free_for: Callable[[int], bool] = lambda _uid: False,
    ) -> Future[object]:
        done: Future[object] = Future()

        def answered(asked: Future[int]) -> None:
            try:
                then(asked.result())
                done.set_result(None)
            except Exception as error:
                done.set_exception(error)

        self._authority.authorize(call, action, details, free_for=free_for).add_done_callback(answered)
        return done


def _check_same_transition(asked: Installed | None, now: Installed | None) -> None:
    """See that a way back means what it meant when somebody asked for it.  Raises JobError."""
    if asked is not None and (now is None or now.name != asked.name):
        raise JobError(
            f"the transition of {asked.name} was over before it could be reversed, and nothing was done; "
            "ask again to go back further"
        )
    if asked is None and now is not None:
        raise JobError(
            f"the transition of {now.name} has begun meanwhile, and nothing was done; ask again to reverse it"
        )


def _nowhere(to: str, history: History) -> UsageError:
    if not to:
        return UsageError(
            "klpd has seen nothing in force before the present; the unpatched kernel is: klpctl revert --to original"
        )
    seen = sorted({each.members[-1].name for each in history.moments if each.members})
    return UsageError(
        f"klpd has seen no time before the present at which {to} was the newest livepatch; those were: "
        + (", ".join(seen) or "none")
    )
