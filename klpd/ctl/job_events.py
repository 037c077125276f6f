# SPDX-License-Identifier: GPL-2.0-or-later
"""A job on the bus, followed: its changes, Ctrl-C, and klpd's going away, in the order in which they come."""

from __future__ import annotations

import signal
from collections import deque
from typing import TYPE_CHECKING, Final

from gi.repository import Gio, GLib

from klpd.ctl.bus_errors import explained
from klpd.ctl.service import CancelRefused, Interrupted
from klpd.errors import DaemonUnavailableError, KlpdError
from klpd.plain import PlainError, from_plain
from klpd.report import BUS_NAME, JOB_INTERFACE, JobReport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.ctl.service import JobEvent

_PROPERTIES: Final = "org.freedesktop.DBus.Properties"
_BUS: Final = "org.freedesktop.DBus"
_FOREVER: Final = (1 << 31) - 1  # G_MAXINT: somebody may be typing a password
_USUAL: Final = -1  # GDBus' own timeout, 25 s


class JobEvents:
    """The events of one job at a time."""

    def __init__(self, connection: Gio.DBusConnection, flags: Gio.DBusCallFlags) -> None:
        self._connection = connection
        self._flags = flags
        self._events: deque[JobEvent | KlpdError] = deque()
        self._interrupts: int | None = None

    def listen_for_interrupts(self) -> None:
        """Take Ctrl-C from here on for a word about the job that is going to be followed."""
        if self._interrupts is None:
            self._interrupts = GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGINT, self._interrupted)

    def follow(self, job: str) -> Iterator[JobEvent]:
        """The events of the job at this path.  Raises KlpdError where it cannot be followed any more."""
        connection, flags = self._connection, Gio.DBusSignalFlags.NONE
        context = GLib.MainContext.default()
        self.listen_for_interrupts()
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
                BUS_NAME, job, _PROPERTIES, "Get", arguments, None, self._flags, _USUAL, None, self._present_answered
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
        """Ask klpd to cancel it; where that is refused, an event tells so."""
        self._connection.call(
            BUS_NAME, job, JOB_INTERFACE, "Cancel", None, None, self._flags, _FOREVER, None, self._cancel_answered
        )

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
            self._events.append(explained(error))
        else:
            self._reported(answer.get_child_value(0).unpack())

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
            self._events.append(CancelRefused(str(explained(error))))
