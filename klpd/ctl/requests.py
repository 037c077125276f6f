# SPDX-License-Identifier: GPL-2.0-or-later
"""What klpctl can be asked for: a command line, understood."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Status:
    """Tell what klpd knows."""


@dataclass(frozen=True, slots=True)
class Inspect:
    """Tell what is in a livepatch module."""

    file: str


@dataclass(frozen=True, slots=True)
class Check:
    """Judge the loading of a livepatch module."""

    file: str


@dataclass(frozen=True, slots=True)
class Apply:
    """Load a livepatch."""

    file: str


@dataclass(frozen=True, slots=True)
class Disable:
    """Disable a livepatch and remove its module."""

    name: str


@dataclass(frozen=True, slots=True)
class Revert:
    """Go back: to what was before (`to` is empty), to where a livepatch was the newest, or to "original"."""

    to: str


Change = Apply | Disable | Revert
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
class Log:
    """Show journal entries: the last `count` (None: all) since a time in seconds since 1970, and those to come."""

    count: int | None
    since: float | None
    follow: bool


@dataclass(frozen=True, slots=True)
class PolicyCheck:
    """Check policy files; none given: those in force."""

    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PolicyCat:
    """Print the policy files in their order."""


@dataclass(frozen=True, slots=True)
class Reload:
    """Have klpd read its policy anew."""


@dataclass(frozen=True, slots=True)
class GuardStatus:
    """Tell how the guard is."""


@dataclass(frozen=True, slots=True)
class OpenGuard:
    """Open the gate: the way out in an emergency."""


@dataclass(frozen=True, slots=True)
class CloseGuard:
    """Close the gate again."""


Gate = GuardStatus | OpenGuard | CloseGuard
"""What concerns the guard alone."""

Request = Status | Inspect | Check | Plan | Perform | Log | PolicyCheck | PolicyCat | Reload | Gate


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A request, with what holds for all: JSON as output, and tracebacks for errors."""

    request: Request
    json: bool
    debug: bool
