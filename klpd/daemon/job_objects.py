# SPDX-License-Identifier: GPL-2.0-or-later
"""The objects org.klpd1.Job, one for each job, from its beginning until a while after its end."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from gi.repository import GLib

from klpd.daemon.bus import to_dictionaries, to_dictionary, to_variant
from klpd.plain import to_plain
from klpd.report import JOB_INTERFACE, MANAGER_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from klpd.daemon.call import Call
    from klpd.daemon.jobs import Job
    from klpd.daemon.loop import Loop
    from klpd.daemon.object_manager import ObjectManager
    from klpd.model import Verdict
    from klpd.report import JobReport

_LINGER: Final = 60.0
"""Seconds that an ended job stays readable."""
_MOST_ENDED: Final = 64
"""Of more jobs of root's and klpd's own that ended, the oldest go sooner."""
_MOST_OF_ONE: Final = 16
"""The same for each other user, who begins them by the thousand though they are refused."""
_MOST_OF_OTHERS: Final = 64
"""And for all of those together."""
_ROOT: Final = 0
_KLPD_ITSELF: Final = (1 << 32) - 1
"""In place of the uid of whoever asked for a job: (uid_t) -1, which nobody has."""


def job_path(job_id: int) -> str:
    """Where the job's object is."""
    return f"{MANAGER_PATH}/job/{job_id}"


class JobObjects:
    """All jobs that can be looked at."""

    def __init__(self, loop: Loop, objects: ObjectManager) -> None:
        self._loop = loop
        self._objects = objects
        self._told: dict[int, GLib.Variant] = {}
        self._ended: dict[int, int] = {}  # the user of each, the oldest first

    @property
    def reports(self) -> GLib.Variant:
        """What was last told of each job in whole, the oldest first: an av of a{sv}."""
        return GLib.Variant("av", list(self._told.values()))

    def publish(self, job: Job, cancel: Callable[[Call], object]) -> str:
        """Put a new job on the bus, whose method Cancel is `cancel`; gives its path."""
        path = job_path(job.report.id)
        self._objects.add(path, JOB_INTERFACE, {"Cancel": cancel}, self._tell(job.report))
        return path

    def announce(self, report: JobReport) -> None:
        """Tell the bus that a job's report became this one."""
        self._objects.change(job_path(report.id), self._tell(report))
        if report.state.final:
            self._ended[report.id] = report.uid or _ROOT
            for each in too_many(self._ended, report.uid or _ROOT):
                self._forget(each)
            self._loop.after(_LINGER, lambda: self._forget(report.id))

    def _tell(self, report: JobReport) -> dict[str, object]:
        properties = job_properties(report)
        self._told[report.id] = GLib.Variant("a{sv}", properties["Report"])
        return properties

    def _forget(self, job_id: int) -> None:
        if job_id not in self._told:
            return
        del self._told[job_id]
        del self._ended[job_id]
        self._objects.remove(job_path(job_id))


def too_many(ended: Mapping[int, int], uid: int) -> list[int]:
    """Which of the jobs that ended go, the oldest first, now that one of the user `uid` has ended."""
    own = [job for job, user in ended.items() if user == uid]
    if uid == _ROOT:
        return own[:-_MOST_ENDED]
    others = [job for job, user in ended.items() if user != _ROOT]
    return list({*own[:-_MOST_OF_ONE], *others[:-_MOST_OF_OTHERS]})


def job_properties(report: JobReport) -> dict[str, object]:
    """The properties of org.klpd1.Job, as the interface declares them."""
    steps = [{"verdict": _verdict(each.verdict), "state": to_variant(each.state.value)} for each in report.steps]
    whole = to_dictionary(to_plain(replace(report, steps=())))
    whole["steps"] = GLib.Variant("av", [GLib.Variant("a{sv}", each) for each in steps])
    return {
        "Id": report.id,
        "Kind": report.kind,
        "Goal": report.goal,
        "State": report.state.value,
        "Steps": steps,
        "Progress": report.progress,
        "Stragglers": to_dictionaries(to_plain(report.stragglers)),
        "Result": report.state.value if report.state.final else "",
        "Error": report.error or "",
        "Message": report.message or "",
        "StartedByUID": _KLPD_ITSELF if report.uid is None else report.uid,
        "Report": whole,
    }


@lru_cache(256)
def _verdict(verdict: Verdict) -> GLib.Variant:
    """The bulk of a job, that stays the same while the job changes."""
    return to_variant(to_plain(verdict))
