# SPDX-License-Identifier: GPL-2.0-or-later
"""The wiring: puts the parts of the daemon together, starts them in the order that leaves no gap, and stops them."""

from __future__ import annotations

import logging
import os
import signal
import threading
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klpd.daemon.authority import Authority
from klpd.daemon.bus import Bus
from klpd.daemon.defences import fallback_defence, guard_defence, hold_defence, reconcile_defence, state_defence
from klpd.daemon.enforcement import Enforcement
from klpd.daemon.fallback import Fallback
from klpd.daemon.fd_store import replace_stored, take_stored
from klpd.daemon.hold import Hold
from klpd.daemon.jobs import Jobs
from klpd.daemon.known import KnownLivepatches
from klpd.daemon.loop import Loop
from klpd.daemon.lost import LostEvents
from klpd.daemon.manager import Manager
from klpd.daemon.notify import notify, notify_reloading, watchdog_period
from klpd.daemon.planning import Planning
from klpd.daemon.policies import Policies
from klpd.daemon.record import Record
from klpd.daemon.releasing import Releasing
from klpd.daemon.running import RunningKernel
from klpd.daemon.standing import StandingApprovals
from klpd.daemon.state_files import StateFiles
from klpd.daemon.store import Store
from klpd.daemon.transitions import Transitions
from klpd.daemon.unfinished import Unfinished
from klpd.daemon.unwatched import Unwatched
from klpd.daemon.watch import Watch
from klpd.errors import GuardError, KernelError, KlpdError, PolicyError
from klpd.judge.ways import Gate, gate_of
from klpd.kernel import gate, switches, sysfs
from klpd.kernel.guard import (
    GuardEvent,
    GuardState,
    RefusedFileEvent,
    SwitchEvent,
    TransitionEvent,
    WriteEvent,
)
from klpd.kernel.guard_abi import GuardMode, GuardVerdict
from klpd.kernel.inotify import WrittenFile
from klpd.kernel.layouts import KernelLayouts
from klpd.kernel.memory import KernelMemory
from klpd.kernel.mounts import lies_in
from klpd.kernel.uevents import ModuleEvents
from klpd.module.search import watched_directories
from klpd.policy import read_policy
from klpd.report import BUS_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from klpd.daemon.jobs import Job
    from klpd.daemon.journal import Journal
    from klpd.judge.rules import Policy
    from klpd.kernel.guard import Guard
    from klpd.kernel.guard_abi import Event
    from klpd.model import Installed, Stack
    from klpd.report import Defence, DefenceState

log = logging.getLogger(__name__)

_PATIENCE: Final = 10.0
"""Seconds to wait until all directories are watched, at the start and at a reload."""
_AGAIN: Final = 0.5
"""Seconds until the service manager is told once more what it has not taken."""
_HOSTS_SWITCH: Final = Path("/proc/1/root", switches.FTRACE_ENABLED.relative_to("/"))
"""By the mount of procfs that the host has: klpd's own is another, and what is written there alone would be told."""
_TAKES_EFFECT: Final = 0.5
"""Seconds after which a write that the guard has told of beforehand has been made."""
_LAST_WRITES: Final = 5.0
"""Seconds to write what is not written yet when klpd ends."""
_LATE: Final = "it takes long to look through the directories to watch; some are not watched yet"


class Daemon:
    """klpd.  Building it takes hold of the kernel; `run` serves until SIGTERM."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._record = Record(journal)
        self._told: dict[str, tuple[DefenceState, bool]] = {}
        self._loop = Loop()
        self._exit_status = 0
        self._policies = Policies(read_policy)
        self._guard: Guard | None = None
        with suppress(PolicyError):  # it is recorded, and the built-in policy is in force
            self._take_policy()
        stored = take_stored()
        self._guard, self._no_guard = _guard(self._policies.current, stored)
        _store(self._guard, stored)
        self._files = StateFiles(lambda: self._loop.call_soon(self._tell_defences))
        self._layouts = KernelLayouts()
        self._store = Store(declared=self._declared_changed, files=self._files, layouts=self._layouts)
        self._lost = LostEvents(files=self._files)
        self._memory, self._no_memory = _memory()
        self._transitions = Transitions()
        known = KnownLivepatches(self._store, self._watched, self._layouts, self._entered)
        self._kernel = RunningKernel(self._memory, self._guard, known, self._transitions, self._policy)
        threading.Thread(target=self._prepare, name="prepare", daemon=True).start()
        self._enforcement = Enforcement(self._kernel, self._policy, self._store, self._guard, self._layouts)
        self._standing = StandingApprovals(self._enforcement, self._store.find, files=self._files)
        self._fallback, self._no_fallback = self._stand_in()
        self._watch = Watch(
            self._kernel,
            self._store,
            self._record,
            self._policy,
            is_livepatch=sysfs.is_livepatch,
            approved=self._approved,
            later=self._later,
            looked=self._looked,
            reconciled=lambda stack, drift: self._loop.call_soon(lambda: self._manager.stack_seen(stack, drift)),
            drifted=lambda drift: self._loop.call_soon(lambda: self._manager.drift_found(drift)),
        )
        self._hold, self._no_hold = self._start_hold()
        self._unwatched = Unwatched(self._enforcement.look, self._watch_file, self._record)
        self._releasing = None if self._hold is None else Releasing(self._loop, self._hold.group, self._hold.page)
        self._unfinished = Unfinished(files=self._files)
        self._jobs = Jobs(
            self._kernel,
            self._policy,
            self._store,
            self._unfinished,
            changed=self._job_changed,
            ended=self._watch.look,
        )
        self._bus = Bus(self._loop)
        self._manager = Manager(
            loop=self._loop,
            bus=self._bus,
            authority=Authority(lambda: self._bus.connection),
            kernel=self._kernel,
            policies=self._policies,
            planning=Planning(
                self._kernel,
                self._policies,
                self._store,
                self._layouts,
                self._enforcement.remember,
                watched=self._is_judged_at_open,
                gate=self._gate,
            ),
            record=self._record,
            jobs=self._jobs,
            standing=self._standing,
            defences=self._defences,
            drift=lambda: self._watch.drift,
            reload=self._reload,
            open_guard=self._open_guard,
            close_guard=self._close_guard,
        )

    def run(self) -> int:
        """Serve until told to stop.  The guard stays closed afterwards: no daemon, no new livepatch.

        The exit status: not 0 where another klpd runs.
        """
        self._uevents = ModuleEvents(self._watch.modules_changed)
        self._end_uevents = self._loop.watch(self._uevents.fileno(), self._read_uevents)
        if self._guard is not None:
            self._loop.watch(self._guard.fileno(), self._read_guard)
            # What came before, the self-test has taken from the ring: no event tells of that.
            self._read_guard()
            self._watch_switch(self._guard)
        self._tell_defences()
        self._watch.look()
        for saved in self._unfinished.jobs:
            self._manager.take_up(saved)
        self._loop.on_signal(signal.SIGTERM, self._loop.quit)
        self._loop.on_signal(signal.SIGINT, self._loop.quit)
        self._loop.on_signal(signal.SIGHUP, self._reload_on_signal)
        period = watchdog_period()
        if period is not None:
            self._loop.every(period, self._ping)
        if self._hold is not None and self._releasing is not None:
            self._hold.relieved = lambda: self._releasing is not None and self._releasing.connected
            self._releasing.start()
        self._bus.serve(BUS_NAME, tried=self._ready, taken=self._not_alone)
        self._loop.run()
        notify("STOPPING=1")
        self._stop()
        return self._exit_status

    def _ready(self) -> None:
        if not notify("READY=1", f"STATUS={self._headline()}"):
            self._loop.after(_AGAIN, self._ready)

    def _not_alone(self) -> None:
        self._exit_status = 1
        self._loop.quit()

    def _job_changed(self, job: Job) -> None:
        report = job.report  # as it is now; by the time that the loop comes to it, it may be another
        self._loop.call_soon(lambda: self._manager.job_changed(report))

    def _policy(self) -> Policy:
        return self._policies.current

    def _declared_changed(self) -> None:
        """Have nothing hold that was judged by what was declared before."""
        if self._guard is not None:
            self._guard.next_epoch()
            self._watch.look_soon()

    def _entered(self, name: str) -> str | None:
        """The digest of the bytes that the guard saw enter by that name."""
        return None if self._guard is None else self._guard.entered_digest(name)

    def _approved(self, livepatch: Installed) -> bool:
        """Whether a livepatch in force was approved since the machine booted: the guard itself knows, or the store."""
        entered = None if self._guard is None else self._guard.entered(livepatch.name)
        if entered is not None and entered.verdict is GuardVerdict.ALLOWED and entered.digest == livepatch.digest:
            return True
        return self._store.approved(livepatch)

    def _prepare(self) -> None:
        """What whoever opens the first livepatch is not to wait for."""
        self._layouts.load_running()
        self._kernel.prepare()

    def _watch_switch(self, guard: Guard) -> None:
        """Tell at once when the kernel calls the guard no more, or again."""
        try:
            switch = WrittenFile(_HOSTS_SWITCH)
        except KernelError as error:
            log.warning("whether the kernel calls the guard is looked at with the watchdog's pings only: %s", error)
            return

        def written() -> None:
            switch.read()
            self._guard_switched(guard)

        self._loop.watch(switch.fileno(), written)

    def _guard_switched(self, guard: Guard) -> None:
        try:
            guard.test_again()
        except KernelError as error:
            log.warning("the guard cannot be tested: %s", error)
        self._tell_defences()
        notify(f"STATUS={self._headline()}")

    def _looked(self, stack: Stack) -> None:
        self._enforcement.permit(stack)
        self._standing.judge_anew()
        self._loop.call_soon(self._tell_defences)

    def _open_guard(self, uid: int) -> None:
        gate.open_gate(self._present_guard())
        self._watch.look_soon()
        self._tell_defences()
        self._record.guard_opened(uid)
        notify(f"STATUS={self._headline()}")

    def _close_guard(self, uid: int) -> None:
        try:
            gate.close_gate(self._present_guard(), self._policies.current.mode)
        finally:
            self._tell_defences()
        self._read_guard()
        self._record.guard_closed(uid)
        notify(f"STATUS={self._headline()}")

    def _present_guard(self) -> Guard:
        if self._guard is None:
            raise GuardError(f"there is no guard to open or close: {self._no_guard}")
        return self._guard

    def _take_policy(self) -> None:
        try:
            self._policies.load()
        except PolicyError:
            self._record.policy_rejected(self._policies.report)
            raise
        if self._guard is not None:
            # Before anybody is told of it: nothing is good any more that was judged by another policy.
            gate.obey(self._guard, self._policies.current)
            self._enforcement.withdraw_permissions()
        self._record.policy_loaded(self._policies.report)

    def _reload(self) -> Future[None]:
        """Have the policy's files read anew.  Raises PolicyError; the result comes when the directories are watched.

        Where that takes very long, it comes without: nobody waits for a network for ever, and klpctl status tells.
        """
        watched: Future[None] = Future()
        try:
            self._take_policy()
        finally:
            self._manager.policy_changed()
            notify(f"STATUS={self._headline()}")
        if self._hold is not None:
            self._hold.timeout = self._policies.current.hold_timeout
            self._hold.watch(self._watched(), lambda: self._loop.call_soon(lambda: _settle(watched)))
            need_not = self._loop.after(_PATIENCE, lambda: _settle(watched, late=_LATE))
            watched.add_done_callback(lambda _watched: need_not())
        else:
            _settle(watched)
        self._watch.look_soon()
        return watched

    def _reload_on_signal(self) -> None:
        notify_reloading()
        try:
            self._reload().add_done_callback(lambda _watched: self._loop.call_soon(self._ready))
        except PolicyError as error:
            log.error("the policy was not taken: %s", error)
            self._ready()

    def _guard_mode(self) -> GuardMode:
        return gate.guard_mode(self._policies.current.mode)

    def _stand_in(self) -> tuple[Fallback | None, str]:
        """What is there in the guard's place.  Somebody who wants no guard does not want it either."""
        if self._guard is not None or gate.switched_off():
            return None, ""
        try:
            return Fallback(self._enforcement, self._record, self._guard_mode, self._approve_later), ""
        except KernelError as error:
            return None, f"; nor can fanotify refuse anything: {error}"

    def _approve_later(self, digest: str) -> None:
        self._loop.call_soon(lambda: self._store.approve(digest))

    def _start_hold(self) -> tuple[Hold | None, str]:
        try:
            hold = Hold(
                self._enforcement,
                self._record,
                timeout=self._policies.current.hold_timeout,
                loads=self._fallback,
                declared_changed=self._declared_changed,
            )
        except KernelError as error:
            return None, str(error)
        hold.start()
        watched = threading.Event()
        hold.watch(self._watched(), watched.set)
        if not watched.wait(_PATIENCE):
            log.warning(_LATE)
        return hold, ""

    def _watched(self) -> tuple[Path, ...]:
        return watched_directories(self._policies.current.directories)

    def _is_judged_at_open(self, fd: int) -> bool:
        if self._hold is None or not self._hold.alive:
            return False
        return lies_in(fd, self._watched()) or self._unwatched.watches(fd)

    def _watch_file(self, fd: int) -> None:
        if self._hold is None:
            raise KlpdError(self._no_hold)
        self._hold.watch_file(fd)

    def _gate(self) -> Gate:
        opened = self._guard_mode() is GuardMode.OFF
        guarded = Gate.MISSING if self._fallback is None else Gate.FALLBACK
        if self._guard is not None:
            does_its_work = opened or self._guard.status().state in (GuardState.CLOSED, GuardState.OBSERVING)
            guarded = Gate.CLOSED if does_its_work else Gate.MISSING
        return gate_of(self._policies.current.mode, opened=opened, guarded=guarded)

    def _defences(self) -> tuple[Defence, ...]:
        return (
            hold_defence(self._hold, self._no_hold, alone=self._releasing is not None and self._releasing.missing),
            self._guard_defence(),
            reconcile_defence(self._memory, self._no_memory),
            state_defence(self._files.trouble),
        )

    def _guard_defence(self) -> Defence:
        if self._fallback is not None and self._hold is not None and self._hold.alive:
            return fallback_defence(self._guard_mode(), self._no_guard)
        return guard_defence(self._guard, self._no_guard + self._no_fallback)

    def _headline(self) -> str:
        report = self._policies.report
        up = ", ".join(f"{each.name} {each.state}" for each in self._defences())
        return f"{report.mode}; {up}" + ("; POLICY FILES NOT TAKEN" if report.errors else "")

    def _read_guard(self) -> None:
        if self._guard is None:
            return
        for event in self._guard.read_events():
            try:
                self._take_event(event)
            except Exception:
                log.exception("an event of the guard's was lost")  # and no other with it
        self._tell_counted()
        self._watch.look_soon()

    def _take_event(self, event: Event) -> None:
        if isinstance(event, GuardEvent):
            judged = self._enforcement.judged(event.digest, event.token)
            if event.verdict is GuardVerdict.ALLOWED:
                self._store.approve(event.digest)
            if event.allowed and event.digest and event.pid != os.getpid():
                self._store.loaded(event.digest, ())
            self._record.load_decided(event, judged)
            self._unwatched.loaded(event)
        elif isinstance(event, RefusedFileEvent):
            judged = self._enforcement.judged(event.digest)
            if judged is None or judged.allowed:
                self._unwatched.refused(event)
        elif isinstance(event, WriteEvent):
            verdict = self._enforcement.write_judged(event.livepatch, event.attribute, event.generation)
            self._record.write_decided(event, verdict)
        elif isinstance(event, SwitchEvent):
            self._record.switch_decided(event)
            if event.allowed and self._guard is not None:
                guard = self._guard
                self._loop.after(_TAKES_EFFECT, lambda: self._guard_switched(guard))
        elif isinstance(event, TransitionEvent):
            self._transitions.note(event)

    def _read_uevents(self) -> None:
        if self._uevents.read():
            self._end_uevents()
            self._end_uevents = self._loop.watch(self._uevents.fileno(), self._read_uevents)

    def _tell_defences(self) -> None:
        """Record each line of defence that is in another state than it was."""
        for defence in self._defences():
            alarm = defence.name == "guard" and self._is_ineffective()
            if self._told.get(defence.name) != (defence.state, alarm):
                self._told[defence.name] = defence.state, alarm
                self._record.defence(defence, alarm=alarm)

    def _is_ineffective(self) -> bool:
        return self._guard is not None and self._guard.status().state is GuardState.INEFFECTIVE

    def _tell_counted(self) -> None:
        """Record what has no entry of its own."""
        self._record.tell_withheld()
        for handler in logging.getLogger().handlers:
            handler.flush()
        if self._guard is not None:
            lost = self._lost.untold(self._guard.counters().lost)
            if lost:
                self._record.events_lost(lost)
                self._watch.look_soon()

    def _mend_guard(self) -> None:
        if self._guard is None:
            return
        try:
            self._guard.test_again()
            if self._guard.attach_again():
                log.warning("somebody had detached a part of the guard; it is attached again")
                _keep(self._guard)
            self._guard.pin_again()
        except KernelError as error:
            log.warning("the guard cannot be mended: %s", error)

    def _ping(self) -> None:
        self._tell_counted()
        self._journal.flush()
        self._tell_defences()  # before that is mended
        self._mend_guard()
        self._tell_defences()
        if self._releasing is not None:
            self._releasing.ping()
        if self._hold is None or self._hold.responsive():
            notify("WATCHDOG=1")

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        self._loop.call_soon(lambda: self._loop.after(seconds, function))

    def _stop(self) -> None:
        if self._hold is not None:
            self._hold.stop()
        if self._releasing is not None:
            self._releasing.close()
        self._watch.stop()
        self._unwatched.stop()
        self._manager.stop()
        self._files.stop(_LAST_WRITES)
        self._record.tell_withheld(all_of_them=True)
        self._journal.flush()


def _settle(watched: Future[None], late: str = "") -> None:
    if not watched.done():
        if late:
            log.warning(late)
        watched.set_result(None)


def _guard(policy: Policy, stored: Mapping[str, int]) -> tuple[Guard | None, str]:
    if gate.switched_off():
        return None, f"{gate.SWITCH} is on the kernel's command line"
    try:
        guard = gate.have_guard(policy, stored)
        guard.claim()
    except (GuardError, KernelError) as error:
        return None, str(error)
    return guard, ""


def _store(guard: Guard | None, former: Mapping[str, int]) -> None:
    """Have the guard outlive a restart though somebody has removed its pins."""
    _keep(guard, former)
    for fd in former.values():
        os.close(fd)


def _keep(guard: Guard | None, former: Iterable[str] = ()) -> None:
    """Have the service manager keep what the guard consists of now, in place of what it kept by these names."""
    try:
        if guard is None:
            replace_stored(former, {})
        else:
            with guard.descriptors() as fds:
                replace_stored({*former, *fds}, fds)
    except (OSError, KernelError) as error:
        log.warning("systemd does not keep the guard for a restart: %s", error)


def _memory() -> tuple[KernelMemory | None, str]:
    try:
        return KernelMemory(), ""
    except (GuardError, KernelError) as error:
        return None, str(error)
