# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs in a test host, as nobody: asks klpd for all that it has, in all wrong ways, and far too often.

Argument: how many calls to make at once.  Tells in JSON how many answers and errors of each name there were.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter

from gi.repository import Gio, GLib

_NAME, _PATH, _MANAGER = "org.klpd1", "/org/klpd1", "org.klpd1.Manager"
_PROPERTIES, _OBJECTS = "org.freedesktop.DBus.Properties", "org.freedesktop.DBus.ObjectManager"
_TIMEOUT_MS = 100_000
_MIB = 1 << 20
_NAMED = ("PlanDisable", "PlanRemove", "PlanForce", "PlanRevert", "Disable", "Remove", "Revert", "Force")
_PLAIN = ("GetStatus", "GetTransition", "Reload", "OpenGuard", "CloseGuard")
_FILES = ("Check", "PlanApply", "Apply")

Call = tuple[str, str, GLib.Variant | None, Gio.UnixFDList | None]


def connection() -> Gio.DBusConnection:
    flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
    made = Gio.DBusConnection.new_for_address_sync("unix:path=/run/dbus/system_bus_socket", flags, None, None)
    made.set_exit_on_close(False)
    return made


def memfds(number: int, size: int) -> Gio.UnixFDList:
    """Files that belong to nobody and are full of nothing."""
    fds = Gio.UnixFDList.new()
    for _each in range(number):
        fd = os.memfd_create("stranger")
        os.truncate(fd, size)
        fds.append(fd)
        os.close(fd)
    return fds


def named(method: str, name: str) -> Call:
    if method.startswith("Plan"):
        return _MANAGER, method, GLib.Variant("(s)", (name,)), None
    return _MANAGER, method, GLib.Variant("(sa{sv})", (name, {"unknown": GLib.Variant("s", "option")})), None


def filed(method: str, number: int, size: int, named: int) -> Call:
    files = [(each % number, f"file {each}") for each in range(named)]
    fds = memfds(number, size)
    match method:
        case "Check":
            options = {"manifests": GLib.Variant("a(hs)", files)}
            return _MANAGER, method, GLib.Variant("(hsa{sv})", (0, "file", options)), fds
        case _:
            return _MANAGER, method, GLib.Variant("(a(hs)a{sv})", (files, {})), fds


def wrong_calls() -> list[Call]:
    calls: list[Call] = []
    for method in (*_NAMED, *_PLAIN, *_FILES, "NoSuchMethod"):
        calls.append((_MANAGER, method, GLib.Variant("(ti)", (1, 2)), None))
        calls.append((_MANAGER, method, None, None))
    for method in _NAMED:
        calls += [named(method, name) for name in ("", "a", "a" * 5000, "\u20ac" * 100_000, "../../etc/passwd")]
    calls += [named("Disable", "a" * 12_000_000), named("Disable", "a" * 17_000_000)]
    for method in _FILES:
        calls += [filed(method, 1, 60 * _MIB, 1), filed(method, 16, 60 * _MIB, 16)]
        calls += [filed(method, 16, 0, 16), filed(method, 1, 100, 5000)]
    calls += [(_PROPERTIES, "GetAll", GLib.Variant("(s)", (_MANAGER,)), None)] * 3
    calls += [(_PROPERTIES, "Get", GLib.Variant("(ss)", (_MANAGER, "Mode")), None)] * 3
    calls += [(_OBJECTS, "GetManagedObjects", None, None)] * 3
    return calls


class Storm:
    def __init__(self) -> None:
        self.loop = GLib.MainLoop()
        self.told: Counter[str] = Counter()
        self._waiting = 0

    def make(self, calls: list[Call]) -> None:
        """Make calls, as many connections' at once, and wait for all of them."""
        connections = [connection() for _each in range(8)]
        for number, (interface, method, arguments, fds) in enumerate(calls):
            self._waiting += 1
            connections[number % len(connections)].call_with_unix_fd_list(
                _NAME,
                _PATH,
                interface,
                method,
                arguments,
                None,
                Gio.DBusCallFlags.NONE,
                _TIMEOUT_MS,
                fds,
                None,
                self._answered,
            )
        self.loop.run()
        for each in connections:
            each.close_sync(None)

    def _answered(self, client: Gio.DBusConnection, result: Gio.AsyncResult) -> None:
        try:
            client.call_with_unix_fd_list_finish(result)
            self.told["answered"] += 1
        except GLib.Error as error:
            self.told[Gio.DBusError.get_remote_error(error) or error.message] += 1
        self._waiting -= 1
        if not self._waiting:
            self.loop.quit()


def deaf(calls: int) -> int:
    """A process that makes calls and then reads nothing."""
    pid = os.fork()
    if pid == 0:
        client = connection()
        for _each in range(calls):
            client.call(
                _NAME, _PATH, _MANAGER, "GetStatus", None, None, Gio.DBusCallFlags.NONE, _TIMEOUT_MS, None, None
            )
        client.flush_sync(None)
        os.kill(os.getpid(), signal.SIGSTOP)
    return pid


def main(at_once: str) -> None:
    silent = [deaf(100) for _each in range(4)]
    storm = Storm()
    storm.make(wrong_calls())
    number = int(at_once)
    storm.make([filed("Check", 1, _MIB, 0) for _each in range(number)])
    for pid in silent:
        os.kill(pid, signal.SIGKILL)
    print(json.dumps(storm.told))


if __name__ == "__main__":
    main(*sys.argv[1:])
