# SPDX-License-Identifier: GPL-2.0-or-later
"""The errors: one tree, in which each has a name on D-Bus and an exit status for klpctl."""

from __future__ import annotations

import errno
import inspect
import re

import pytest

from klpd import errors
from klpd.errors import (
    CannotTellError,
    DaemonUnavailableError,
    ExitStatus,
    GuardError,
    JobError,
    KernelError,
    KlpdError,
    LimitError,
    ModuleFormatError,
    NoSuchLivepatchError,
    NotALivepatchError,
    NotAuthorizedError,
    OvertakenError,
    PolicyError,
    TimedOutError,
    UsageError,
    VetoedError,
)
from klpd.model import Decision, Verdict
from klpd.plain import PlainError

_STATUSES: dict[type[KlpdError], ExitStatus] = {
    KlpdError: ExitStatus.FAILED,
    ModuleFormatError: ExitStatus.USAGE,
    NotALivepatchError: ExitStatus.USAGE,
    PolicyError: ExitStatus.USAGE,
    UsageError: ExitStatus.USAGE,
    VetoedError: ExitStatus.VETOED,
    CannotTellError: ExitStatus.CANNOT_TELL,
    NotAuthorizedError: ExitStatus.NOT_AUTHORIZED,
    NoSuchLivepatchError: ExitStatus.USAGE,
    LimitError: ExitStatus.FAILED,
    JobError: ExitStatus.FAILED,
    TimedOutError: ExitStatus.FAILED,
    DaemonUnavailableError: ExitStatus.NO_DAEMON,
    KernelError: ExitStatus.FAILED,
    OvertakenError: ExitStatus.FAILED,
    GuardError: ExitStatus.FAILED,
    PlainError: ExitStatus.FAILED,
}


def test_this_table_lacks_no_error_and_each_is_of_the_one_tree() -> None:
    defined = {each for _name, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, Exception)}
    assert defined | {PlainError} == _STATUSES.keys()
    assert all(issubclass(each, KlpdError) for each in defined)


@pytest.mark.parametrize("error", _STATUSES, ids=lambda error: error.__name__)
def test_each_error_has_a_name_of_its_own_on_d_bus(error: type[KlpdError]) -> None:
    assert "dbus_name" in vars(error)
    # Libraries know what to do about a limit by the name that the bus itself uses.
    own = "org.freedesktop.DBus" if error is LimitError else "org.klpd1"
    assert re.fullmatch(rf"{re.escape(own)}\.Error\.[A-Z][A-Za-z]+", error.dbus_name)
    assert [each for each in _STATUSES if each.dbus_name == error.dbus_name] == [error]


@pytest.mark.parametrize(("error", "status"), _STATUSES.items(), ids=lambda each: getattr(each, "__name__", None))
def test_each_error_has_its_exit_status(error: type[KlpdError], status: ExitStatus) -> None:
    assert error.exit_status is status


def test_no_error_ends_with_the_status_of_success() -> None:
    assert int(ExitStatus.OK) == 0
    assert ExitStatus.OK not in _STATUSES.values()


def test_who_expects_the_broader_error_gets_the_narrower_one_too() -> None:
    assert issubclass(NotALivepatchError, ModuleFormatError)
    assert issubclass(TimedOutError, JobError)


@pytest.mark.parametrize(
    ("line", "column", "text"),
    [
        (7, 3, "50-site.toml:7:3: no such key"),
        (7, None, "50-site.toml:7: no such key"),
        (None, None, "50-site.toml: no such key"),
    ],
)
def test_a_policy_error_begins_with_its_place(line: int | None, column: int | None, text: str) -> None:
    error = PolicyError("no such key", file="50-site.toml", line=line, column=column)
    assert str(error) == text
    assert (error.message, error.file, error.line, error.column) == ("no such key", "50-site.toml", line, column)


def test_a_veto_carries_its_verdict() -> None:
    verdict = Verdict("load", "klp_a", Decision.DENY)
    assert VetoedError("load of klp_a is refused", verdict).verdict is verdict
    assert VetoedError("load of klp_a is refused").verdict is None


def test_a_kernel_error_tells_what_was_tried_and_how_the_kernel_refused() -> None:
    error = KernelError("cannot load klp_a", errno.EBUSY)
    assert str(error) == "cannot load klp_a: Device or resource busy"
    assert error.errno == errno.EBUSY


def test_a_kernel_error_can_be_made_of_what_python_raised() -> None:
    error = KernelError.of("cannot read enabled", OSError(errno.ENODEV, "ignored"))
    assert str(error) == "cannot read enabled: No such device"
    assert error.errno == errno.ENODEV


@pytest.mark.parametrize(("count", "more"), [(1, None), (20, None), (21, 1), (100, 80)])
def test_the_account_of_policy_errors_tells_each_up_to_a_bound(count: int, more: int | None) -> None:
    error = PolicyError.of([PolicyError("wrong", file="50.toml", line=line) for line in range(1, count + 1)])
    lines = error.account.splitlines()
    assert lines[:20] == [f"50.toml:{line}: wrong" for line in range(1, min(count, 20) + 1)]
    assert lines[20:] == ([] if more is None else [f"and {more} more: klpctl policy check, klpctl manifest check"])
    assert KlpdError("one thing").account == "one thing"


def test_what_kind_of_policy_error_comes_first_is_kept() -> None:
    first = PolicyError.of([PolicyError("a", file="f", forbidden=True, exposed=True), PolicyError("b", file="f")])
    assert (first.forbidden, first.exposed, len(first.all)) == (True, True, 2)
