# SPDX-License-Identifier: GPL-2.0-or-later
"""A klpd that touches no kernel, for test_program.py.  Prints "ready" when it has its name on the bus.

What a job does is in the name of the livepatch: "quick", "over" (before anybody looks), "busy" (it changes while it is
looked at), "slow" (until it is canceled), "early" (the same, and its caller is interrupted before he knows of the job),
"stubborn" (it may not be canceled), "forbidden" (nobody may), "crash" (klpd dies of being looked at).  A transition
runs for as long as it has been asked for twice.
"""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from importlib import resources
from typing import TYPE_CHECKING

from gi.repository import Gio, GLib

from klpd.daemon.bus import Bus, to_dictionary
from klpd.daemon.job_objects import job_properties
from klpd.daemon.loop import Loop
from klpd.errors import ModuleFormatError, NotAuthorizedError, PolicyError
from klpd.plain import to_plain
from klpd.report import (
    BUS_NAME,
    JOB_INTERFACE,
    LONGEST_APPROVED,
    MANAGER_INTERFACE,
    MANAGER_PATH,
    MANIFESTS,
    PARAMETERS,
    SECONDS,
    JobState,
    StandingApproval,
    StepState,
)
from tests.unit.ctl.examples import PLAN, STATUS, TRANSITION, VETOED, job

if TYPE_CHECKING:
    from klpd.daemon.bus import Publication
    from klpd.daemon.call import Call
    from klpd.report import JobReport

WAITING = job(JobState.WAITING, StepState.PENDING, StepState.PENDING)
RUNNING = job(JobState.RUNNING, StepState.RUNNING, StepState.PENDING)
REMOVING = job(JobState.RUNNING, StepState.DONE, StepState.RUNNING)
DONE = job(JobState.DONE, StepState.DONE, StepState.DONE, progress=1.0)


class FakeJob:
    """A job on the bus."""

    def __init__(self, loop: Loop, bus: Bus, number: int, what: str) -> None:
        self._loop = loop
        self._number = number
        self.path = f"{MANAGER_PATH}/job/{number}"
        self._what = what
        self._report = RUNNING
        methods = {"Cancel": self._cancel}
        self._publication: Publication = bus.publish(self.path, _interface(JOB_INTERFACE), methods, self._properties)

    @property
    def report(self) -> JobReport:
        return replace(self._report, id=self._number)

    def change(self, *reports: JobReport) -> None:
        for each in reports:
            self._report = each
            self._publication.emit_changed({"Report": to_dictionary(to_plain(each))})

    def _properties(self) -> dict[str, object]:
        if self._what == "busy":
            self.change(WAITING, RUNNING, REMOVING)
            self._loop.after(0.0, lambda: self.change(DONE))
        elif self._what == "crash":
            self._loop.after(0.0, lambda: os._exit(1))
        return job_properties(self._report)

    def _cancel(self, _call: Call) -> None:
        if self._what == "stubborn":
            raise NotAuthorizedError("polkit does not allow org.klpd1.cancel to this caller")
        canceled = replace(RUNNING, state=JobState.CANCELED, error="org.klpd1.Error.Canceled", message="canceled")
        self.change(canceled)


class FakeKlpd:
    """The manager."""

    def __init__(self, loop: Loop, bus: Bus) -> None:
        self._loop = loop
        self._bus = bus
        self._jobs: list[FakeJob] = []
        self._transitions = [TRANSITION, TRANSITION]
        methods = {
            "GetStatus": self._status,
            "GetTransition": self._transition,
            "Check": self._check,
            "PlanApply": self._plan_apply,
            "PlanDisable": lambda _call: to_dictionary(to_plain(PLAN)),
            "Apply": self._apply,
            "Approve": self._approve,
            "Disable": self._disable,
            "Remove": lambda call: self._begin(call.text(0)),
            "Reload": self._reload,
        }
        bus.publish(MANAGER_PATH, _interface(MANAGER_INTERFACE), methods, dict)

    def _status(self, _call: Call) -> object:
        return to_dictionary(to_plain(replace(STATUS, jobs=tuple(each.report for each in self._jobs))))

    def _transition(self, _call: Call) -> object:
        return to_dictionary(to_plain(self._transitions.pop() if self._transitions else {}))

    def _plan_apply(self, call: Call) -> object:
        given = [" ".join(each) for each in call.words_under(1, PARAMETERS)]
        goal = f"apply {', '.join(_contents(call))}" + (f" with {given}" if given else "")
        return to_dictionary(to_plain(replace(PLAN, goal=goal)))

    def _check(self, call: Call) -> object:
        with call.file(0) as file:
            content = file.read().decode()
        if not content:
            raise ModuleFormatError(f"{call.text(1)}: it is empty")
        for manifest, name in call.files_under(2, MANIFESTS):
            with manifest:
                content += f", {name}={manifest.read().decode()}"
        return to_dictionary(to_plain(replace(VETOED, livepatch=f"{call.text(1)}={content}")))

    def _approve(self, call: Call) -> object:
        with call.file(0) as file:
            content = file.read().decode()
        seconds = call.number_under(2, SECONDS, 0, LONGEST_APPROVED)
        return to_dictionary(to_plain(StandingApproval(content, "ab" * 32, call.text(1), call.uid, float(seconds))))

    def _apply(self, call: Call) -> str:
        return self._begin(_contents(call)[-1].rpartition("=")[2])

    def _disable(self, call: Call) -> str:
        if call.text(0) == "early":
            os.kill(self._pid_of(call.sender), signal.SIGINT)
        return self._begin(call.text(0))

    def _pid_of(self, sender: str) -> int:
        bus = "org.freedesktop.DBus"
        arguments, flags = GLib.Variant("(s)", (sender,)), Gio.DBusCallFlags.NONE
        connection = self._bus.connection
        assert connection is not None
        answer = connection.call_sync(
            bus, "/org/freedesktop/DBus", bus, "GetConnectionUnixProcessID", arguments, None, flags, -1, None
        )
        return answer.get_child_value(0).get_uint32()

    def _begin(self, what: str) -> str:
        new = FakeJob(self._loop, self._bus, len(self._jobs) + 1, what)
        self._jobs.append(new)
        forbidden = replace(
            RUNNING, state=JobState.FAILED, error=NotAuthorizedError.dbus_name, message="polkit says no"
        )
        match what:
            case "quick":
                self._loop.after(0.1, lambda: new.change(DONE))
            case "over":
                new.change(DONE)
            case "forbidden":
                self._loop.after(0.0, lambda: new.change(forbidden))
        return new.path

    def _reload(self, _call: Call) -> None:
        raise PolicyError("no such key", file="/etc/klpd/policy.d/50-site.toml", line=3, column=1)


def _contents(call: Call) -> list[str]:
    """NAME=CONTENT of each file handed over as an a(hs)."""
    found = []
    for file, name in call.files(0):
        with file:
            found.append(f"{name}={file.read().decode()}")
    return found


def _interface(name: str) -> str:
    return resources.files("klpd.daemon").joinpath(f"{name}.xml").read_text(encoding="utf-8")


def main() -> None:
    loop = Loop()
    bus = Bus(loop)
    FakeKlpd(loop, bus)
    bus.serve(BUS_NAME, tried=lambda: print("ready", flush=True), taken=loop.quit)
    loop.run()


if __name__ == "__main__":
    main()
