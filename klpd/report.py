# SPDX-License-Identifier: GPL-2.0-or-later
"""What the daemon tells of itself, as values: status, plans, jobs.  On D-Bus they travel as `klpd.plain`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from klpd.model import Decision, Drift, Outcome, Stack, Verdict

BUS_NAME = "org.klpd1"
MANAGER_PATH = "/org/klpd1"
MANAGER_INTERFACE = "org.klpd1.Manager"
JOB_INTERFACE = "org.klpd1.Job"
LIVEPATCH_INTERFACE = "org.klpd1.Livepatch"
MANIFESTS = "manifests"
"""The option that hands over the manifests of the files that a call is about."""
PARAMETERS = "parameters"
"""The option that has the parameters of the modules that a call is to load, NAME=VALUE, for each file an array."""
SECONDS = "seconds"
"""The option that says for how long a livepatch is approved."""
APPROVED_FOR = 600
LONGEST_APPROVED = 7 * 86400
"""Seconds for which one is where nobody says for how long, and for which one may be."""


class DefenceState(StrEnum):
    """UP: does all that it is for.  DEGRADED: works in part, the detail says which.  DOWN: does nothing."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Defence:
    """A line of defence: "hold", "guard" or "reconcile"."""

    name: str
    state: DefenceState
    detail: str


@dataclass(frozen=True, slots=True)
class StateName:
    """What the policy calls a state."""

    id: int
    name: str


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """The policy in force, with the number of the site's manifests.

    `errors` are the complaints about the files that were not taken, if so.
    """

    mode: str
    default: str
    unknown_states: str
    files: tuple[str, ...]
    errors: tuple[str, ...] = ()
    builtin: bool = False
    names: tuple[StateName, ...] = ()
    manifests: int = 0


class StepState(StrEnum):
    """How far a step of a job is."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class StepReport:
    """A step of a job, with the verdict that lets it happen."""

    verdict: Verdict
    state: StepState


class JobState(StrEnum):
    """The states of a job, in about this order; the last three are final."""

    AUTHORIZING = "authorizing"
    WAITING = "waiting"
    RUNNING = "running"
    REVERSING = "reversing"
    DONE = "done"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def final(self) -> bool:
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELED)


@dataclass(frozen=True, slots=True)
class Straggler:
    """A task that has not switched to the transition's target state yet.

    `since` is when the transition began, in seconds since the epoch; `run_state` the task's letter in /proc/PID/stat.
    `stack` is its kernel stack, the innermost function first; `function` the one of these that the transition
    exchanges, so that the task has to leave it first.  Empty or None is what could not be told.
    """

    pid: int
    tid: int
    command: str
    since: float | None = None
    run_state: str = ""
    wchan: str = ""
    stack: tuple[str, ...] = ()
    function: str | None = None


@dataclass(frozen=True, slots=True)
class Transition:
    """The running transition: of `tasks` tasks, the `stragglers` have not switched yet.

    `goal` is "patched" or "unpatched"; `since` as a straggler has it.
    """

    livepatch: str
    goal: str
    tasks: int
    stragglers: tuple[Straggler, ...] = ()
    since: float | None = None

    @property
    def progress(self) -> float:
        """The part of the tasks that have switched, 0 to 1."""
        return 1 - len(self.stragglers) / self.tasks if self.tasks else 0.0


@dataclass(frozen=True, slots=True)
class Prospect:
    """What the job that waits for a transition does about it if its stragglers stay.

    `then` is what it does when the policy's time is over ("wait", "reverse" or "force"), which is `due`, in seconds
    since the epoch; None for "wait".  `turned`: the transition goes back already.  `refused` is why the job could not
    do it, and tries again when the policy or the stack is another.
    """

    livepatch: str
    then: str
    due: float | None = None
    turned: bool = False
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class TransitionReport:
    """The running transition (the fields of `Transition`), and what the policy says of it.

    It may take `timeout` seconds, and `on_timeout` is to be done then ("wait", "reverse" or "force"), if a job waits
    for it: `job`, which tells what it is going to do.  `may_force`: a rule lets it be forced.
    """

    livepatch: str
    goal: str
    tasks: int
    timeout: float
    on_timeout: str
    may_force: bool
    stragglers: tuple[Straggler, ...] = ()
    since: float | None = None
    job: int | None = None
    prospect: Prospect | None = None


@dataclass(frozen=True, slots=True)
class JobReport:
    """A job.  `progress` is the part of the running step's tasks that have switched, 0 to 1.

    `error` is a D-Bus error name and `message` its sentence, for a job that failed or was canceled; a job that is done
    may have a message too, such as that there was nothing to do.  `uid` is who asked for it; None: klpd itself.
    """

    id: int
    kind: str
    goal: str
    state: JobState
    steps: tuple[StepReport, ...] = ()
    progress: float = 0.0
    stragglers: tuple[Straggler, ...] = ()
    error: str | None = None
    message: str | None = None
    uid: int | None = None


@dataclass(frozen=True, slots=True)
class PlanReport:
    """A plan as it is shown: the verdict of every step, in order.

    `gap`: in between, none of the livepatches that are being exchanged is in force.  `outcome`: what a job with this
    plan would come to; None where whoever told of it does not tell that.
    """

    goal: str
    decision: Decision
    steps: tuple[Verdict, ...]
    gap: bool = False
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class StandingApproval:
    """A livepatch that anybody may load until a time (seconds since the epoch), as long as the policy lets it in.

    `digest` is the SHA-256 (hex) of its module's bytes; `file` and `uid` say as what it came, and from whom.
    `refused` is why the policy does not let it in now; empty where it does.
    """

    livepatch: str
    digest: str
    file: str
    uid: int
    until: float
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """What `klpctl status` shows."""

    version: str
    policy: PolicyReport
    defences: tuple[Defence, ...]
    stack: Stack
    jobs: tuple[JobReport, ...] = ()
    drift: tuple[Drift, ...] = ()
    approvals: tuple[StandingApproval, ...] = ()
