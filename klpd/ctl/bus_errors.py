# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes wrong on the bus, as sentences and exit statuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gi.repository import Gio

from klpd.ctl.service import RemoteError
from klpd.errors import DaemonUnavailableError, KlpdError, LimitError, NotAuthorizedError

if TYPE_CHECKING:
    from gi.repository import GLib

_BUS: Final = "org.freedesktop.DBus"
_NOT_RUNNING: Final = "klpd is not running; start it with: systemctl start klpd"
_ABSENT: Final = frozenset(
    f"{_BUS}.Error.{each}"
    for each in ("ServiceUnknown", "NameHasNoOwner", "Spawn.ServiceNotFound", "Disconnected", "NoServer")
)
_SILENT: Final = frozenset(f"{_BUS}.Error.{each}" for each in ("NoReply", "Timeout", "TimedOut"))
_OUTDATED: Final = frozenset(
    f"{_BUS}.Error.{each}"
    for each in ("UnknownMethod", "UnknownInterface", "UnknownObject", "UnknownProperty", "InvalidArgs")
)
_PREFIX: Final = "GDBus.Error:"


def explain(name: str | None, message: str) -> KlpdError:
    """The error for what D-Bus calls `name` (None: there is no connection to the bus)."""
    if name is None:
        return DaemonUnavailableError(f"the system bus cannot be reached ({message}), and klpd only through it")
    if name in _ABSENT:
        return DaemonUnavailableError(_NOT_RUNNING)
    if name in _SILENT:
        return DaemonUnavailableError("klpd does not answer; see what it does with: systemctl status klpd")
    if name == f"{_BUS}.Error.AccessDenied":
        return NotAuthorizedError(f"the system bus does not let you ask klpd for that: {message}")
    if name == f"{_BUS}.Error.InteractiveAuthorizationRequired":
        return NotAuthorizedError(f"somebody would have to be asked for a password, and cannot: {message}")
    if name == f"{_BUS}.Error.LimitsExceeded":
        return LimitError(f"no more is taken from this user at the moment: {message}")
    if name in _OUTDATED:
        return KlpdError(f"the klpd that runs is of another version than klpctl: {message}; restart it")
    return RemoteError(message, name)


def explained(error: GLib.Error) -> KlpdError:
    """The error for one of GDBus'."""
    name = Gio.DBusError.get_remote_error(error)
    message = error.message.removeprefix(f"{_PREFIX}{name}: ")
    if name is None and error.matches("g-io-error-quark", Gio.IOErrorEnum.TIMED_OUT):
        name = f"{_BUS}.Error.NoReply"
    return explain(name, message)
