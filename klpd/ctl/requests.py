# SPDX-License-Identifier: GPL-2.0-or-later
"""What klpctl can be asked for: a command line, understood."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Bare(Enum):
    """A command that takes nothing; its value is how it is typed."""

    STATUS = "status"
    JOBS = "jobs"
    POLICY_CAT = "policy cat"
    RELOAD = "reload"
    GUARD_STATUS = "guard status"
    GUARD_OPEN = "guard open"
    GUARD_CLOSE = "guard close"


@dataclass(frozen=True, slots=True)
class List:
    """List the livepatches in force; `names`: nothing but their names."""

    names: bool


@dataclass(frozen=True, slots=True)
class Inspect:
    """Tell what is in a livepatch module."""

    file: str


@dataclass(frozen=True, slots=True)
class Diff:
    """Tell what an update changes: two livepatch modules compared."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Check:
    """Judge the loading of a livepatch module."""

    file: str


@dataclass(frozen=True, slots=True)
class Apply:
    """Load livepatches, in this order, each with parameters (NAME=VALUE)."""

    files: tuple[str, ...]
    parameters: tuple[tuple[str, ...], ...] = ()
    """For each file; empty where none has any."""


@dataclass(frozen=True, slots=True)
class Disable:
    """Disable a livepatch and remove its module."""

    name: str


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the module of a livepatch that is no longer in force."""

    name: str


@dataclass(frozen=True, slots=True)
class Revert:
    """Go back: to what was before (`to` is empty), to where a livepatch was the newest, or to "original"."""

    to: str


@dataclass(frozen=True, slots=True)
class Force:
    """Force the running transition, of whichever livepatch it is if `name` is empty."""

    name: str


Change = Apply | Disable | Remove | Revert | Force
"""What changes the kernel."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Show the steps of a change, and take none."""

    change: Change


@dataclass(frozen=True, slots=True)
class Perform:
    """Make a change; `confirmed` where no question is wanted."""

    change: Change
    confirmed: bool


@dataclass(frozen=True, slots=True)
class Blockers:
    """Show the tasks that the running transition waits for; `follow`: until it ends."""

    follow: bool


@dataclass(frozen=True, slots=True)
class Wait:
    """Follow a job to its end."""

    job: int


@dataclass(frozen=True, slots=True)
class Log:
    """Show journal entries: the last `count` (None: all) since a time in seconds since 1970, and those to come."""

    count: int | None
    since: float | None
    follow: bool


@dataclass(frozen=True, slots=True)
class PolicyCheck:
    """Check policy files; none given: those in force.  `unsafe`: whoever may write them."""

    files: tuple[str, ...]
    unsafe: bool = False


@dataclass(frozen=True, slots=True)
class ManifestNew:
    """Write a manifest to begin with for a module, to a new file; "": to standard output."""

    file: str
    output: str


@dataclass(frozen=True, slots=True)
class ManifestCheck:
    """Check a manifest ("": those of the site), and whether it fits a module ("": none)."""

    manifest: str
    file: str


@dataclass(frozen=True, slots=True)
class Approve:
    """Have a livepatch approved, for anybody to load for so many seconds; 0: no longer."""

    file: str
    seconds: int


Look = List | Inspect | Diff | Check | Plan | Blockers | Log
"""What changes nothing."""

OnFiles = PolicyCheck | ManifestNew | ManifestCheck
"""What is about policy files and manifests."""

Request = Bare | Look | OnFiles | Perform | Wait | Approve


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A request, with what holds for all of them.

    `json`: print JSON; `debug`: the tracebacks of errors, too; `host`: where to do it, as ssh takes it (empty: here);
    `ask_password`: let polkit ask for one.
    """

    request: Request
    json: bool = False
    debug: bool = False
    host: str = ""
    ask_password: bool = True
