# SPDX-License-Identifier: GPL-2.0-or-later
"""The objects org.klpd1.Job, one for each job, from its beginning until a while after its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gi.repository import GLib

from klpd.daemon.bus import read_interface, to_dictionary
from klpd.plain import to_plain
from klpd.report import JOB_INTERFACE, MANAGER_PATH

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.daemon.bus import Bus, Call, Publication
    from klpd.daemon.jobs import Job
    from klpd.daemon.loop import Loop
    from klpd.report import JobReport

_LINGER: Final = 60.0
"""Seconds that an ended job stays readable."""
_TYPES: Final = {"State": "s", "Progress": "d", "Report": "a{sv}"}


def job_path(job_id: int) -> str:
    """Where the job's object is."""
    return f"{MANAGER_PATH}/job/{job_id}"


class JobObjects:
    """All jobs that can be looked at.  Whoever reads a job sees what was last announced of it, and nothing newer."""

    def __init__(self, loop: Loop, bus: Bus) -> None:
        self._loop = loop
        self._bus = bus
        self._xml = read_interface(JOB_INTERFACE)
        self._publications: dict[int, Publication] = {}
        self._shown: dict[int, JobReport] = {}

    @property
    def reports(self) -> tuple[JobReport, ...]:
        """What was last announced of each job, the oldest first."""
        return tuple(self._shown.values())

    def publish(self, job: Job, cancel: Callable[[Call], object]) -> str:
        """Put a new job on the bus, whose method Cancel is `cancel`; gives its path."""
        job_id = job.report.id
        self._shown[job_id] = job.report
        self._publications[job_id] = self._bus.publish(
            job_path(job_id),
            self._xml,
            {"Cancel": cancel},
            lambda: {"Id": job_id, "Kind": job.report.kind, **_properties(self._shown[job_id])},
        )
        return job_path(job_id)

    def announce(self, report: JobReport) -> None:
        """Tell the bus that a job's report became this one."""
        self._shown[report.id] = report
        changes = {name: GLib.Variant(_TYPES[name], value) for name, value in _properties(report).items()}
        self._publications[report.id].emit_changed(changes)
        if report.state.final:
            self._loop.after(_LINGER, lambda: self._forget(report.id))

    def _forget(self, job_id: int) -> None:
        del self._shown[job_id]
        self._publications.pop(job_id).unregister()


def _properties(report: JobReport) -> dict[str, object]:
    return {"State": report.state.value, "Progress": report.progress, "Report": to_dictionary(to_plain(report))}
