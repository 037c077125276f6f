# SPDX-License-Identifier: GPL-2.0-or-later
"""The one exception tree.  Each class has the name that it goes by on D-Bus and klpctl's exit status for it."""

from __future__ import annotations

import os
from enum import IntEnum
from errno import ECANCELED
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from klpd.model import Verdict


class ExitStatus(IntEnum):
    """What klpctl's exit status means (klpctl(1))."""

    OK = 0
    VETOED = 1
    USAGE = 2
    CANNOT_TELL = 3
    NO_DAEMON = 4
    NOT_AUTHORIZED = 5
    FAILED = 6


class KlpdError(Exception):
    """Anything that went wrong and that somebody is to be told of; the text is a sentence for them."""

    dbus_name: ClassVar[str] = "org.klpd1.Error.Failed"
    exit_status: ClassVar[ExitStatus] = ExitStatus.FAILED

    @property
    def account(self) -> str:
        """All that there is to tell, in lines."""
        return str(self)


MOST_TOLD: Final = 20
"""How many complaints about policy files one error tells."""

INTERNAL_ERROR = "klpd met an error of its own; journalctl -u klpd has the details"
"""What others are told of an exception that is none of these."""


class ModuleFormatError(KlpdError):
    """A file is not a module that can be read: no ELF, truncated, contradicting itself, over a bound."""

    dbus_name = "org.klpd1.Error.BadModule"
    exit_status = ExitStatus.USAGE


class NotALivepatchError(ModuleFormatError):
    """A file is a kernel module, but not a livepatch."""

    dbus_name = "org.klpd1.Error.NotALivepatch"


class PolicyError(KlpdError):
    """A policy file or a manifest cannot be taken.

    `line` and `column` are 1 based; None where the whole file is meant.
    `others` is what else is wrong with the files that were read along with it.  `forbidden`: it is but that whoever
    asks may not read it; `exposed`: it is but that others than root could change it.
    """

    dbus_name = "org.klpd1.Error.BadPolicy"
    exit_status = ExitStatus.USAGE

    def __init__(
        self,
        message: str,
        *,
        file: str,
        line: int | None = None,
        column: int | None = None,
        others: tuple[PolicyError, ...] = (),
        forbidden: bool = False,
        exposed: bool = False,
    ) -> None:
        where = ":".join(str(part) for part in (file, line, column) if part is not None)
        super().__init__(f"{where}: {message}")
        self.message = message
        self.file = file
        self.line = line
        self.column = column
        self.others = others
        self.forbidden = forbidden
        self.exposed = exposed

    @classmethod
    def of(cls, complaints: Sequence[PolicyError]) -> PolicyError:
        """The first of some complaints, with the others."""
        first, *others = complaints
        return cls(
            first.message,
            file=first.file,
            line=first.line,
            column=first.column,
            others=tuple(others),
            forbidden=first.forbidden,
            exposed=first.exposed,
        )

    @property
    def all(self) -> tuple[PolicyError, ...]:
        """This one and the others."""
        return (self, *self.others)

    @property
    def account(self) -> str:
        told = [str(each) for each in self.all]
        more = len(told) - MOST_TOLD
        return "\n".join(
            (*told[:MOST_TOLD], *([f"and {more} more: klpctl policy check, klpctl manifest check"] if more > 0 else ()))
        )


class UsageError(KlpdError):
    """A request that makes no sense as it was put."""

    dbus_name = "org.klpd1.Error.InvalidArgument"
    exit_status = ExitStatus.USAGE


class VetoedError(KlpdError):
    """The judge said no."""

    dbus_name = "org.klpd1.Error.Vetoed"
    exit_status = ExitStatus.VETOED

    def __init__(self, message: str, verdict: Verdict | None = None) -> None:
        super().__init__(message)
        self.verdict = verdict


class CannotTellError(KlpdError):
    """The facts that a verdict needs were not to be had."""

    dbus_name = "org.klpd1.Error.CannotTell"
    exit_status = ExitStatus.CANNOT_TELL


class NotAuthorizedError(KlpdError):
    """Polkit did not allow it."""

    dbus_name = "org.klpd1.Error.NotAuthorized"
    exit_status = ExitStatus.NOT_AUTHORIZED


class NoSuchLivepatchError(KlpdError):
    """No livepatch of that name is installed."""

    dbus_name = "org.klpd1.Error.NoSuchLivepatch"
    exit_status = ExitStatus.USAGE


class LimitError(KlpdError):
    """Somebody asks for more at once than klpd gives."""

    dbus_name = "org.freedesktop.DBus.Error.LimitsExceeded"


class JobError(KlpdError):
    """A job ended otherwise than wanted."""

    dbus_name = "org.klpd1.Error.JobFailed"


class TimedOutError(JobError):
    """A transition did not end in the time that the policy gives it."""

    dbus_name = "org.klpd1.Error.TimedOut"


class DaemonUnavailableError(KlpdError):
    """klpd does not answer on the system bus."""

    dbus_name = "org.klpd1.Error.Unavailable"
    exit_status = ExitStatus.NO_DAEMON


class KernelError(KlpdError):
    """The kernel refused a request; `errno` tells how, and `said` what it had to say of it in its log."""

    dbus_name = "org.klpd1.Error.Kernel"

    def __init__(self, what: str, errno: int, said: tuple[str, ...] = ()) -> None:
        log = f" (kernel log: {'; '.join(said)})" if said else ""
        super().__init__(f"{what}: {os.strerror(errno)}{log}")
        self.errno = errno

    @classmethod
    def of(cls, what: str, error: OSError) -> KernelError:
        """`error`, with a sentence of what was tried."""
        return cls(what, error.errno or 0)


class OvertakenError(KernelError):
    """The stack was no longer the one that an action had been judged on, and nothing was done."""

    dbus_name = "org.klpd1.Error.Overtaken"

    def __init__(self, what: str) -> None:
        super().__init__(f"{what}, since the stack is no longer the one that this was judged on", ECANCELED)


class GuardError(KlpdError):
    """The kernel guard, or a reader of kernel memory, cannot be had on this kernel."""

    dbus_name = "org.klpd1.Error.Guard"
