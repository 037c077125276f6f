# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in a test host: many clients of klpd, of which each asks for the status, has a file checked, and applies it.

Arguments: how many, and the files, which go round among them.  Tells in JSON how many calls of each method were
answered, which errors came, the states of the jobs in the order in which they were told, and the jobs at their end.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from gi.repository import Gio, GLib

_NAME, _PATH = "org.klpd1", "/org/klpd1"
_MANAGER, _JOB = "org.klpd1.Manager", "org.klpd1.Job"
_TIMEOUT_MS = 100_000


def connection() -> Gio.DBusConnection:
    flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
    return Gio.DBusConnection.new_for_address_sync("unix:path=/run/dbus/system_bus_socket", flags, None, None)


class Clients:
    """`listener` hears the signals; each client has a connection of its own."""

    def __init__(self, count: int) -> None:
        self.loop = GLib.MainLoop()
        self.answers: Counter[str] = Counter()
        self.errors: list[str] = []
        self.states: list[tuple[str, str]] = []
        self._ended = 0
        self._listener = connection()
        self._listener.signal_subscribe(_NAME, None, None, None, None, Gio.DBusSignalFlags.NONE, self._heard)
        self.objects()  # answered: the subscription holds
        self._connections = [connection() for _each in range(count)]

    def ask(self, files: list[Path]) -> None:
        """Make all calls at once."""
        for number, each in enumerate(self._connections):
            file = files[number % len(files)]
            self._call(each, "GetStatus", None, None)
            fds, handle = opened(file)
            self._call(each, "Check", GLib.Variant("(hsa{sv})", (handle, file.name, {})), fds)
            fds, handle = opened(file)
            self._call(each, "Apply", GLib.Variant("(a(hs)a{sv})", ([(handle, file.name)], {})), fds)

    def objects(self) -> Any:  # noqa: ANN401
        """klpd's objects, as GetManagedObjects gives them."""
        manager, flags = "org.freedesktop.DBus.ObjectManager", Gio.DBusCallFlags.NONE
        answer = self._listener.call_sync(
            _NAME, _PATH, manager, "GetManagedObjects", None, None, flags, _TIMEOUT_MS, None
        )
        return answer.get_child_value(0).unpack()

    def _call(
        self, client: Gio.DBusConnection, method: str, arguments: GLib.Variant | None, fds: Gio.UnixFDList | None
    ) -> None:
        def answered(client: Gio.DBusConnection, result: Gio.AsyncResult) -> None:
            try:
                client.call_with_unix_fd_list_finish(result)
                self.answers[method] += 1
            except GLib.Error as error:
                self.errors.append(f"{method}: {error.message}")
            self._end_if_over()

        flags = Gio.DBusCallFlags.NONE
        client.call_with_unix_fd_list(
            _NAME, _PATH, _MANAGER, method, arguments, None, flags, _TIMEOUT_MS, fds, None, answered
        )

    def _heard(
        self, _c: Gio.DBusConnection, _sender: str, path: str, _interface: str, member: str, values: GLib.Variant
    ) -> None:
        arguments: Any = values.unpack()
        if member == "JobRemoved":
            self._ended += 1
            self._end_if_over()
        elif member == "PropertiesChanged" and arguments[0] == _JOB and "State" in arguments[1]:
            self.states.append((path, arguments[1]["State"]))

    def _end_if_over(self) -> None:
        count = len(self._connections)
        if self.answers.total() + len(self.errors) == 3 * count and self._ended == self.answers["Apply"]:
            self.loop.quit()


def opened(file: Path) -> tuple[Gio.UnixFDList, int]:
    """A list with a descriptor of the file, and where it is in there."""
    fds = Gio.UnixFDList.new()
    with file.open("rb") as stream:
        return fds, fds.append(stream.fileno())


def give_up() -> bool:
    sys.exit("the answers, or the ends of jobs, have not come")


def main(count: str, *files: str) -> None:
    clients = Clients(int(count))
    clients.ask([Path(each) for each in files])
    GLib.timeout_add(_TIMEOUT_MS, give_up)
    clients.loop.run()
    jobs = [each[_JOB] for each in clients.objects().values() if _JOB in each]
    found = {
        "answers": clients.answers,
        "errors": clients.errors,
        "states": clients.states,
        "jobs": [{key: job[key] for key in ("Goal", "Result", "Error", "Steps")} for job in jobs],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
