# SPDX-License-Identifier: GPL-2.0-or-later
"""The jobs that are not over, in /var/lib/klpd/jobs: what a klpd that starts anew takes up again.

Nothing of it outlives a reboot: the kernel has forgotten then what the jobs were about.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from klpd.daemon.course import CanceledError, Course
from klpd.daemon.state_files import AtOnce, boot_id, read_file, replace_file
from klpd.errors import JobError, TimedOutError
from klpd.judge.planner import Plan
from klpd.judge.steps import Step
from klpd.model import Disable, Force, Load, Remove, Reverse, target
from klpd.plain import to_plain
from klpd.remembered import STATE_DIRECTORY
from klpd.report import JobReport, StepState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from klpd.daemon.state_files import Writing
    from klpd.model import Action, Livepatch

log = logging.getLogger(__name__)

_PATIENCE: Final = 10.0
"""Seconds that a job waits for the disk before it goes on without it."""

_ACTIONS: Final = {each.__name__.lower(): each for each in (Disable, Reverse, Force, Remove)}
_LOAD: Final = "load"
_REVERSE: Final = "reverse"
_FORCE: Final = "force"


@dataclass(frozen=True, slots=True)
class SavedAction:
    """An action of a plan; `digest` is that of the livepatch to load, with `parameters`."""

    action: str
    livepatch: str
    digest: str | None = None
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SavedCourse:
    """Where the transition of the step that was being taken was to go (klpd.daemon.course.Course).

    `ending` and `why` are name and text of the error that the job was to end with.
    """

    goal: bool
    enabled: bool
    since: float
    ending: str | None = None
    why: str = ""
    reversal: bool = False

    @classmethod
    def of(cls, course: Course) -> SavedCourse:
        ending = course.ending
        return cls(
            course.goal,
            course.enabled,
            course.since,
            None if ending is None else ending.dbus_name,
            "" if ending is None else str(ending),
            course.reversal,
        )

    @property
    def course(self) -> Course:
        kinds = {each.dbus_name: each for each in (CanceledError, TimedOutError)}
        ending = None if self.ending is None else kinds.get(self.ending, JobError)(self.why)
        return Course(self.goal, self.enabled, self.since, ending, self.reversal)


@dataclass(frozen=True, slots=True)
class SavedJob:
    """A job as it was last seen, with its plan's actions; none before it was planned.

    `canceled`: somebody asked for its end.
    """

    report: JobReport
    actions: tuple[SavedAction, ...] = ()
    course: SavedCourse | None = None
    canceled: bool = False

    @property
    def on_the_transition(self) -> bool:
        """Whether it is about the transition that ran when it was asked for: to reverse it, or to force it."""
        return self.forces or (bool(self.actions) and self.actions[0].action == _REVERSE)

    @property
    def forces(self) -> bool:
        """Whether it is to force it."""
        return bool(self.actions) and self.actions[0].action == _FORCE

    @property
    def begun(self) -> int:
        """The rank of the step that was being taken, or else of the first that was not."""
        return next(
            (rank for rank, step in enumerate(self.report.steps) if step.state is not StepState.DONE),
            len(self.report.steps),
        )

    def plan(self, find: Callable[[str, tuple[str, ...]], Livepatch | None]) -> Plan:
        """The plan again; `find` gives the livepatch with a digest, as it is when it is loaded with parameters.

        Raises JobError where one is not to be had, or the actions are not those of the steps.
        """
        if len(self.actions) != len(self.report.steps):
            raise JobError(
                f"klpd was restarted, and what it had kept of this job has {len(self.actions)} actions for "
                f"{len(self.report.steps)} steps; ask for it again"
            )
        return Plan(
            self.report.goal,
            tuple(
                Step(_action(action, find), step.verdict)
                for action, step in zip(self.actions, self.report.steps, strict=True)
            ),
        )


@dataclass(frozen=True, slots=True)
class _Saved:
    boot_id: str
    last_id: int = 0
    jobs: tuple[SavedJob, ...] = ()


class Unfinished:
    """The file.  May be used from any thread."""

    def __init__(self, folder: Path = STATE_DIRECTORY, files: Writing | None = None) -> None:
        self._files = files or AtOnce()
        self._file = folder / "jobs"
        self._lock = threading.Lock()
        self._saved = self._read()

    @property
    def last_id(self) -> int:
        """The highest id that a job has had since the machine booted; 0 for none."""
        return self._saved.last_id

    @property
    def jobs(self) -> tuple[SavedJob, ...]:
        """The jobs that are not over, the oldest first."""
        return self._saved.jobs

    def note(
        self, report: JobReport, plan: Plan | None, course: Course | None = None, *, canceled: bool = False
    ) -> None:
        """Note how a job is; nothing is written where only its progress is another."""
        job = SavedJob(
            replace(report, progress=0.0, stragglers=()),
            () if plan is None else _actions(plan),
            None if course is None else SavedCourse.of(course),
            canceled,
        )
        with self._lock:
            others = tuple(each for each in self._saved.jobs if each.report.id != report.id)
            jobs = others if report.state.final else (*others, job)
            saved = _Saved(self._saved.boot_id, max(self._saved.last_id, report.id), tuple(sorted(jobs, key=_id)))
            if saved == self._saved:
                return
            self._saved = saved
        self._files.write(self._file.name, self._write)

    def settle(self) -> None:
        """Wait until what was noted is on the disk, unless it cannot be, or that takes very long."""
        self._files.settle(_PATIENCE)

    def _write(self) -> None:
        replace_file(self._file, json.dumps(to_plain(self._saved)).encode())

    def _read(self) -> _Saved:
        this_boot = boot_id()
        saved = read_file(self._file, _Saved)
        return saved if saved is not None and saved.boot_id == this_boot else _Saved(this_boot)


def _id(job: SavedJob) -> int:
    return job.report.id


def _actions(plan: Plan) -> tuple[SavedAction, ...]:
    return tuple(
        SavedAction(
            type(each.action).__name__.lower(),
            target(each.action),
            *_loaded(each.action),
        )
        for each in plan.steps
    )


def _loaded(action: Action) -> tuple[str | None, tuple[str, ...]]:
    return (action.livepatch.digest, action.livepatch.parameters or ()) if isinstance(action, Load) else (None, ())


def _action(saved: SavedAction, find: Callable[[str, tuple[str, ...]], Livepatch | None]) -> Action:
    if saved.action in _ACTIONS:
        return _ACTIONS[saved.action](saved.livepatch)
    livepatch = None if saved.digest is None else find(saved.digest, saved.parameters)
    if saved.action != _LOAD or livepatch is None:
        raise JobError(
            f"klpd was restarted before it loaded {saved.livepatch}, and does not have its file; apply it again"
        )
    return Load(livepatch)
