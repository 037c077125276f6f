# SPDX-License-Identifier: GPL-2.0-or-later
"""klpd as klpctl meets it, and its errors.  `klpd.ctl.client` is the real one, on the system bus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from klpd.errors import ExitStatus, KlpdError
from klpd.report import MANAGER_PATH, JobReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.ctl.requests import Change
    from klpd.model import Assessment
    from klpd.report import PlanReport, StandingApproval, Status, TransitionReport


class RemoteError(KlpdError):
    """An error that came over the bus; `name` is what D-Bus calls it."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Somebody pressed Ctrl-C."""


@dataclass(frozen=True, slots=True)
class CancelRefused:
    """The job could not be canceled; `message` says why."""

    message: str


JobEvent = JobReport | Interrupted | CancelRefused


class Service(Protocol):
    """What klpctl asks of klpd.  Every method may raise RemoteError and DaemonUnavailableError."""

    def status(self) -> Status: ...

    def transition(self) -> TransitionReport | None:
        """The transition that runs right now, if one does."""
        ...

    def check(self, file: str) -> Assessment:
        """The verdict on loading `file` now, and what becomes of it by each way.

        Raises UsageError where it cannot be opened.
        """
        ...

    def approve(self, file: str, seconds: int) -> StandingApproval:
        """Have anybody be let load `file` for so long; 0: no longer.  Raises UsageError where it cannot be opened."""
        ...

    def plan(self, change: Change) -> PlanReport: ...

    def start(self, change: Change) -> str:
        """Begin a change; the job's object path.  From then on Ctrl-C is an event of the job."""
        ...

    def follow(self, job: str) -> Iterator[JobEvent]:
        """The events of a job, its present report among the first.  Ctrl-C is one of them."""
        ...

    def cancel(self, job: str) -> None:
        """Ask for the job's end; whoever follows it is told how that went."""
        ...

    def reload(self) -> None: ...

    def open_guard(self) -> None: ...

    def close_guard(self) -> None: ...


def job_path(job: int) -> str:
    """The object of the job with this number."""
    return f"{MANAGER_PATH}/job/{job}"


def exit_status_of(name: str | None) -> ExitStatus:
    """The exit status for an error with this D-Bus name; FAILED for one that nobody here knows."""
    statuses = {each.dbus_name: each.exit_status for each in _tree(KlpdError)}
    return statuses.get(name or "", ExitStatus.FAILED)


def _tree(error: type[KlpdError]) -> Iterator[type[KlpdError]]:
    # The subclasses first: one without a name of its own must not stand in for the class that has it.
    for each in error.__subclasses__():
        yield from _tree(each)
    yield error
