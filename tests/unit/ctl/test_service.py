# SPDX-License-Identifier: GPL-2.0-or-later
"""What errors on the bus mean for klpctl."""

from __future__ import annotations

import pytest

from klpd import errors
from klpd.ctl.bus_errors import explain
from klpd.ctl.service import RemoteError, exit_status_of
from klpd.errors import DaemonUnavailableError, ExitStatus, KlpdError, NotAuthorizedError

BUS = "org.freedesktop.DBus.Error"


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("org.klpd1.Error.Vetoed", ExitStatus.VETOED),
        ("org.klpd1.Error.BadModule", ExitStatus.USAGE),
        ("org.klpd1.Error.NotALivepatch", ExitStatus.USAGE),
        ("org.klpd1.Error.NoSuchLivepatch", ExitStatus.USAGE),
        ("org.klpd1.Error.CannotTell", ExitStatus.CANNOT_TELL),
        ("org.klpd1.Error.NotAuthorized", ExitStatus.NOT_AUTHORIZED),
        ("org.klpd1.Error.TimedOut", ExitStatus.FAILED),
        ("org.klpd1.Error.Failed", ExitStatus.FAILED),
        ("org.klpd1.Error.OfALaterVersion", ExitStatus.FAILED),
        (None, ExitStatus.FAILED),
    ],
)
def test_each_error_of_klpd_has_its_exit_status(name: str | None, status: ExitStatus) -> None:
    assert exit_status_of(name) == status


def test_an_error_class_without_a_name_of_its_own_does_not_stand_for_another() -> None:
    class OddError(errors.VetoedError):
        exit_status = ExitStatus.OK

    assert exit_status_of("org.klpd1.Error.Vetoed") == ExitStatus.VETOED
    assert OddError.dbus_name == errors.VetoedError.dbus_name


@pytest.mark.parametrize(
    ("name", "kind", "sentence"),
    [
        (f"{BUS}.ServiceUnknown", DaemonUnavailableError, "klpd is not running; start it with: systemctl start klpd"),
        (f"{BUS}.NameHasNoOwner", DaemonUnavailableError, "klpd is not running"),
        (f"{BUS}.NoReply", DaemonUnavailableError, "klpd does not answer"),
        (None, DaemonUnavailableError, "the system bus cannot be reached"),
        (f"{BUS}.AccessDenied", NotAuthorizedError, "the system bus does not let you"),
        (f"{BUS}.InteractiveAuthorizationRequired", NotAuthorizedError, "asked for a password"),
        (f"{BUS}.UnknownMethod", KlpdError, "another version"),
    ],
)
def test_each_error_of_the_bus_has_a_sentence(name: str | None, kind: type[KlpdError], sentence: str) -> None:
    error = explain(name, "the bus's own words")
    assert type(error) is kind
    assert sentence in str(error)


def test_an_error_of_klpd_keeps_its_name_and_sentence() -> None:
    error = explain("org.klpd1.Error.Vetoed", "load of klp_v1 is refused")
    assert isinstance(error, RemoteError)
    assert (error.name, str(error)) == ("org.klpd1.Error.Vetoed", "load of klp_v1 is refused")
