# SPDX-License-Identifier: GPL-2.0-or-later
"""klpd on the system bus: the one place of klpctl that knows D-Bus.

It talks to the bus through Gio, without proxies: that saves asking klpd for its interface before each call.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from typing import TYPE_CHECKING, Final, assert_never

from gi.repository import Gio, GLib

from klpd.ctl.files import open_file
from klpd.ctl.requests import Apply, Disable, Revert
from klpd.ctl.service import CancelRefused, Interrupted, RemoteError
from klpd.errors import DaemonUnavailableError, KlpdError, NotAuthorizedError
from klpd.model import Verdict
from klpd.plain import PlainError, from_plain
from klpd.report import (
    BUS_NAME,
    JOB_INTERFACE,
    MANAGER_INTERFACE,
    MANAGER_PATH,
    MANIFESTS,
    JobReport,
    PlanReport,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.ctl.requests import Change
    from klpd.ctl.service import JobEvent

_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_BUS: Final = "org.freedesktop.DBus"
_FOREVER: Final = (1 << 31) - 1  # G_MAXINT: somebody may be typing a password
_USUAL: Final = -1  # GDBus' own timeout, 25 s
_NOT_RUNNING: Final = "klpd is not running; start it with: systemctl start klpd"

# Who stopped klpd, or never started it, does not want it started by a look at its status.
_FLAGS: Final = Gio.DBusCallFlags.NO_AUTO_START | Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION

_ABSENT: Final = frozenset(
    f"{_BUS}.Error.{each}"
    for each in ("ServiceUnknown", "NameHasNoOwner", "Spawn.ServiceNotFound", "Disconnected", "NoServer")
)
_SILENT: Final = frozenset(f"{_BUS}.Error.{each}" for each in ("NoReply", "Timeout", "TimedOut"))
_OUTDATED: Final = frozenset(
    f"{_BUS}.Error.{each}" for each in ("UnknownMethod", "UnknownInterface", "UnknownObject", "UnknownProperty")
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
    if name in _OUTDATED:
        return KlpdError(f"the klpd that runs is of another version than klpctl: {message}; restart it")
    return RemoteError(message, name)


def _explained(error: GLib.Error) -> KlpdError:
    name = Gio.DBusError.get_remote_error(error)
    message = error.message.removeprefix(f"{_PREFIX}{name}: ")
    if name is None and error.matches("g-io-error-quark", Gio.IOErrorEnum.TIMED_OUT):
        name = f"{_BUS}.Error.NoReply"
    return explain(name, message)


class BusService:
    """A `klpd.ctl.service.Service`: klpd, running, on the system bus."""

    def __init__(self) -> None:
        """Raises DaemonUnavailableError where there is no system bus."""
        try:
            self._connection = Gio.bus_get_sync(Gio.BusType.SYSTEM, None)
        except GLib.Error as error:
            raise _explained(error) from error
        self._connection.set_exit_on_close(False)
        self._events: deque[JobEvent | KlpdError] = deque()
        self._interrupts: int | None = None

    def status(self) -> Status:
        return from_plain(Status, self._manager("GetStatus", None), place="status")

    def check(self, file: str) -> Verdict:
        return from_plain(Verdict, self._with_file("Check", file), place="verdict")

    def plan(self, change: Change) -> PlanReport:
        match change:
            case Apply(file):
                plan = self._with_file("PlanApply", file)
            case Disable(name):
                plan = self._manager("PlanDisable", GLib.Variant("(s)", (_utf8(name),)))
            case Revert(to):
                plan = self._manager("PlanRevert", GLib.Variant("(s)", (_utf8(to),)))
            case _:
                assert_never(change)
        return from_plain(PlanReport, plan, place="plan")

    def start(self, change: Change) -> str:
        # From here on Ctrl-C is a word about the job, and is heard when the job is followed.
        self._interrupts = GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGINT, self._interrupted)
        match change:
            case Apply(file):
                job = self._with_file("Apply", file)
            case Disable(name):
                job = self._manager("Disable", GLib.Variant("(sa{sv})", (_utf8(name), {})))
            case Revert(to):
                job = self._manager("Revert", GLib.Variant("(sa{sv})", (_utf8(to), {})))
            case _:
                assert_never(change)
        return from_plain(str, job, place="job")

    def reload(self) -> None:
        self._call(MANAGER_PATH, MANAGER_INTERFACE, "Reload", None, _FOREVER)

    def open_guard(self) -> None:
        self._call(MANAGER_PATH, MANAGER_INTERFACE, "OpenGuard", None, _FOREVER)

    def close_guard(self) -> None:
        self._call(MANAGER_PATH, MANAGER_INTERFACE, "CloseGuard", None, _FOREVER)

    def follow(self, job: str) -> Iterator[JobEvent]:
        connection, flags = self._connection, Gio.DBusSignalFlags.NONE
        context = GLib.MainContext.default()
        changed = connection.signal_subscribe(
            BUS_NAME, _PROPERTIES, "PropertiesChanged", job, JOB_INTERFACE, flags, self._changed
        )
        owner = connection.signal_subscribe(
            _BUS, _BUS, "NameOwnerChanged", "/org/freedesktop/DBus", BUS_NAME, flags, self._owner_changed
        )
        closed = connection.connect("closed", self._closed)
        try:
            # Asked for after the subscription, so that no change falls between the two; and not waited for here, so
            # that the answer comes in its place among the changes.
            arguments = GLib.Variant("(ss)", (JOB_INTERFACE, "Report"))
            connection.call(
                BUS_NAME, job, _PROPERTIES, "Get", arguments, None, _FLAGS, _USUAL, None, self._present_answered
            )
            while True:
                while not self._events:
                    context.iteration(may_block=True)
                event = self._events.popleft()
                if isinstance(event, KlpdError):
                    raise event
                yield event
        finally:
            if self._interrupts is not None:
                GLib.source_remove(self._interrupts)
                self._interrupts = None
            connection.disconnect(closed)
            connection.signal_unsubscribe(owner)
            connection.signal_unsubscribe(changed)

    def cancel(self, job: str) -> None:
        self._connection.call(
            BUS_NAME, job, JOB_INTERFACE, "Cancel", None, None, _FLAGS, _FOREVER, None, self._cancel_answered
        )

    def _manager(self, method: str, parameters: GLib.Variant | None) -> object:
        return self._call(MANAGER_PATH, MANAGER_INTERFACE, method, parameters)

    def _call(
        self, path: str, interface: str, method: str, parameters: GLib.Variant | None, timeout: int = _USUAL
    ) -> object:
        try:
            answer = self._connection.call_sync(
                BUS_NAME, path, interface, method, parameters, None, _FLAGS, timeout, None
            )
        except GLib.Error as error:
            raise _explained(error) from error
        return _first(answer)

    def _with_file(self, method: str, file: str) -> object:
        """Call a manager's method that takes a file, its name, and the manifest beside it as an option."""
        from klpd.policy.beside import manifest_path, open_beside

        descriptors = Gio.UnixFDList.new()
        handed = _hand_over(open_file(file), file, descriptors)
        beside = open_beside(file)
        options = {}
        if beside is not None:
            manifest = _hand_over(beside, manifest_path(file), descriptors)
            options[MANIFESTS] = GLib.Variant("a(hs)", [manifest])
        parameters = GLib.Variant("(hsa{sv})", (*handed, options))
        try:
            answer, _descriptors = self._connection.call_with_unix_fd_list_sync(
                BUS_NAME, MANAGER_PATH, MANAGER_INTERFACE, method, parameters, None, _FLAGS, _USUAL, descriptors, None
            )
        except GLib.Error as error:
            raise _explained(error) from error
        return _first(answer)

    def _changed(
        self,
        _connection: Gio.DBusConnection,
        _sender: str,
        _path: str,
        _interface: str,
        _signal: str,
        values: GLib.Variant,
    ) -> None:
        properties = values.get_child_value(1).unpack()
        if isinstance(properties, dict) and "Report" in properties:
            self._reported(properties["Report"])

    def _present_answered(self, connection: Gio.DBusConnection, result: Gio.AsyncResult) -> None:
        try:
            answer = connection.call_finish(result)
        except GLib.Error as error:
            self._events.append(_explained(error))
        else:
            self._reported(_first(answer))

    def _reported(self, plain: object) -> None:
        try:
            self._events.append(from_plain(JobReport, plain, place="job"))
        except PlainError as error:
            self._events.append(error)

    def _owner_changed(
        self,
        _connection: Gio.DBusConnection,
        _sender: str,
        _path: str,
        _interface: str,
        _signal: str,
        values: GLib.Variant,
    ) -> None:
        if not values.get_child_value(2).get_string():
            self._events.append(
                DaemonUnavailableError("klpd has ended meanwhile; how the kernel was left: klpctl status")
            )

    def _closed(self, _connection: Gio.DBusConnection, _vanished: bool, _error: GLib.Error | None) -> None:  # noqa: FBT001
        self._events.append(DaemonUnavailableError("the system bus is gone, and klpd cannot be asked any more"))

    def _interrupted(self) -> bool:
        self._events.append(Interrupted())
        return GLib.SOURCE_CONTINUE

    def _cancel_answered(self, connection: Gio.DBusConnection, result: Gio.AsyncResult) -> None:
        try:
            connection.call_finish(result)
        except GLib.Error as error:
            self._events.append(CancelRefused(str(_explained(error))))


def _first(answer: GLib.Variant) -> object:
    values = answer.unpack()
    return values[0] if isinstance(values, tuple) and values else None


def _utf8(argument: str) -> str:
    """An argument of the command line as D-Bus can carry it, which is UTF-8 only."""
    return argument.encode("utf-8", "backslashreplace").decode("utf-8")


def _hand_over(fd: int, name: str, descriptors: Gio.UnixFDList) -> tuple[int, str]:
    """Put a descriptor, which is closed here, into a message's list: its index and its name."""
    try:
        return descriptors.append(fd), _utf8(name)
    finally:
        os.close(fd)
