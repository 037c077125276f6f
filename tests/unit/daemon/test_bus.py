# SPDX-License-Identifier: GPL-2.0-or-later
"""What klpd relies on of pydbus and GDBus, tried on a real bus of the test's own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING

import pytest
from gi.repository import Gio, GLib

from tests.unit.daemon.bus_server import ENDED_BY_ITSELF
from tests.unit.private_bus import message_bus, on_bus, service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME, PATH, INTERFACE = "org.klpd1.Test", "/org/klpd1/test", "org.klpd1.Test"
TIMEOUT_MS = 20_000


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A message bus with the test's service on it."""
    with message_bus() as where, service(where, "tests.unit.daemon.bus_server"):
        yield where


@pytest.fixture
def client(address: str) -> Iterator[Gio.DBusConnection]:
    connection = connection_to(address)
    yield connection
    connection.close_sync(None)


def call(
    client: Gio.DBusConnection, method: str, arguments: GLib.Variant | None = None, interface: str = INTERFACE
) -> object:
    return client.call_sync(
        NAME, PATH, interface, method, arguments, None, Gio.DBusCallFlags.NONE, TIMEOUT_MS, None
    ).unpack()


def error_of(
    client: Gio.DBusConnection, method: str, arguments: GLib.Variant | None = None, interface: str = INTERFACE
) -> tuple[str, str]:
    with pytest.raises(GLib.Error) as caught:
        call(client, method, arguments, interface)
    return Gio.DBusError.get_remote_error(caught.value) or "", caught.value.message


def test_a_method_answers_with_what_it_returns(client: Gio.DBusConnection) -> None:
    assert call(client, "Echo", GLib.Variant("(s)", ("hello",))) == ("hello",)


def test_plain_values_of_any_depth_travel(client: Gio.DBusConnection) -> None:
    assert call(client, "Nested") == ({"list": [1, {"deep": True}], "big": 1 << 63, "less": -1, "part": 0.5},)


def test_a_name_that_is_not_utf_8_keeps_no_answer_back(client: Gio.DBusConnection) -> None:
    assert call(client, "Named") == ({"name": "klp_\\udcff"},)


def test_an_answer_that_takes_long_keeps_nobody_else_waiting(client: Gio.DBusConnection) -> None:
    answers = []
    loop = GLib.MainLoop()

    def answered(connection: Gio.DBusConnection, result: Gio.AsyncResult) -> None:
        answers.append(connection.call_finish(result).unpack())
        if len(answers) == 2:
            loop.quit()

    for method, arguments in (("Slow", None), ("Echo", GLib.Variant("(s)", ("quick",)))):
        flags = Gio.DBusCallFlags.NONE
        client.call(NAME, PATH, INTERFACE, method, arguments, None, flags, TIMEOUT_MS, None, answered)
    loop.run()
    assert answers == [("quick",), ("done",)]


def test_errors_of_klpd_keep_name_and_sentence(client: Gio.DBusConnection) -> None:
    name, message = error_of(client, "Veto")
    assert name == "org.klpd1.Error.Vetoed"
    assert "50-site.toml:3" in message


@pytest.mark.parametrize("method", ["Crash", "CrashLater"])
def test_other_errors_are_answered_without_their_innards(client: Gio.DBusConnection, method: str) -> None:
    name, message = error_of(client, method)
    assert name == "org.klpd1.Error.Failed"
    assert "secret" not in message


def test_a_file_is_handed_over(client: Gio.DBusConnection) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"its content")
        file.seek(0)
        fds = Gio.UnixFDList.new()
        arguments = GLib.Variant("(h)", (fds.append(file.fileno()),))
        flags = Gio.DBusCallFlags.NONE
        answer, _fds = client.call_with_unix_fd_list_sync(
            NAME, PATH, INTERFACE, "Content", arguments, None, flags, TIMEOUT_MS, fds, None
        )
    assert answer.unpack() == ("its content",)


def handed(client: Gio.DBusConnection, method: str, count: int) -> object:
    """The answer to that many files, handed over as an argument or an option."""
    fds, files = Gio.UnixFDList.new(), []
    for number in range(count):
        with tempfile.TemporaryFile() as file:
            file.write(f"content {number}".encode())
            file.seek(0)
            files.append((fds.append(file.fileno()), f"file {number}"))
    options = {"files": GLib.Variant("a(hs)", files)} if files else {}
    arguments = GLib.Variant("(a(hs))", (files,)) if method == "Files" else GLib.Variant("(a{sv})", (options,))
    answer, _fds = client.call_with_unix_fd_list_sync(
        NAME, PATH, INTERFACE, method, arguments, None, Gio.DBusCallFlags.NONE, TIMEOUT_MS, fds, None
    )
    return answer.unpack()


@pytest.mark.parametrize(("method", "count"), [("Files", 1), ("Files", 3), ("Contents", 0), ("Contents", 2)])
def test_several_files_are_handed_over_in_their_order(client: Gio.DBusConnection, method: str, count: int) -> None:
    expected = [(f"file {number}", f"content {number}") for number in range(count)]
    assert handed(client, method, count) == (expected,)


def test_no_files_at_all_are_an_error(client: Gio.DBusConnection) -> None:
    name, message = error_of(client, "Files", GLib.Variant("(a(hs))", ([],)))
    assert name == "org.klpd1.Error.InvalidArgument"
    assert "hand over at least one" in message


@pytest.mark.parametrize(
    "option",
    [
        GLib.Variant("s", "a file"),
        GLib.Variant("as", ["a file"]),
        GLib.Variant("a(hi)", [(0, 1)]),
        GLib.Variant("a(hs)", [(9, "no such file")]),
    ],
    ids=repr,
)
def test_an_option_that_is_no_files_is_an_error(client: Gio.DBusConnection, option: GLib.Variant) -> None:
    name, _message = error_of(client, "Contents", GLib.Variant("(a{sv})", ({"files": option},)))
    assert name in ("org.klpd1.Error.InvalidArgument", "org.freedesktop.DBus.Error.InvalidArgs")


def test_a_handle_without_a_file_is_an_error(client: Gio.DBusConnection) -> None:
    name, _message = error_of(client, "Content", GLib.Variant("(h)", (3,)))
    assert name in ("org.klpd1.Error.InvalidArgument", "org.freedesktop.DBus.Error.InvalidArgs")


@pytest.mark.parametrize("size", [1 << 20, 17 << 20])
def test_arguments_larger_than_any_call_needs_are_refused_and_not_repeated(
    client: Gio.DBusConnection, size: int
) -> None:
    name, message = error_of(client, "Echo", GLib.Variant("(s)", ("x" * size,)))
    assert name == "org.freedesktop.DBus.Error.LimitsExceeded"
    assert len(message) < 1000
    assert call(client, "Echo", GLib.Variant("(s)", ("hello",))) == ("hello",)


def test_no_livepatch_has_a_name_longer_than_the_kernels(client: Gio.DBusConnection) -> None:
    assert call(client, "Livepatch", GLib.Variant("(s)", ("k" * 55,))) == ("k" * 55,)
    name, message = error_of(client, "Livepatch", GLib.Variant("(s)", ("k" * 56,)))
    assert name == "org.klpd1.Error.InvalidArgument"
    assert "56 characters; it can have 55" in message


def test_an_error_that_would_say_more_than_the_bus_carries_is_cut(client: Gio.DBusConnection) -> None:
    _name, message = error_of(client, "Refuse", GLib.Variant("(s)", ("x" * 4000,)))
    assert message.endswith("...")
    assert len(message) < 10_000


def refuse_with_files(client: Gio.DBusConnection, count: int) -> None:
    """A call that is refused, with descriptors that it has no use for."""
    fds, arguments = Gio.UnixFDList.new(), GLib.Variant("(s)", ("x",))
    with tempfile.TemporaryFile() as file:
        for _file in range(count):
            fds.append(file.fileno())
    flags = Gio.DBusCallFlags.NONE
    with pytest.raises(GLib.Error):
        client.call_with_unix_fd_list_sync(NAME, PATH, INTERFACE, "Refuse", arguments, None, flags, TIMEOUT_MS, fds)


def test_what_is_handed_over_is_closed_when_the_call_is_answered_whatever_it_was(client: Gio.DBusConnection) -> None:
    before = call(client, "Descriptors")
    for _call in range(20):
        handed(client, "Files", 3)
        refuse_with_files(client, 10)
    assert call(client, "Descriptors") == before


def test_properties_are_read_and_never_set(client: Gio.DBusConnection) -> None:
    properties = "org.freedesktop.DBus.Properties"
    assert call(client, "Get", GLib.Variant("(ss)", (INTERFACE, "Number")), properties) == (7,)
    assert call(client, "GetAll", GLib.Variant("(s)", (INTERFACE,)), properties) == ({"Number": 7},)
    arguments = GLib.Variant("(ssv)", (INTERFACE, "Number", GLib.Variant("u", 8)))
    name, _message = error_of(client, "Set", arguments, interface=properties)
    assert name in ("org.freedesktop.DBus.Error.PropertyReadOnly", "org.freedesktop.DBus.Error.InvalidArgs")


def test_signals_arrive(client: Gio.DBusConnection) -> None:
    loop = GLib.MainLoop()
    news = []

    def arrived(_c: Gio.DBusConnection, _s: str, _p: str, _i: str, _m: str, values: GLib.Variant) -> None:
        news.append(values.unpack())
        loop.quit()

    client.signal_subscribe(NAME, INTERFACE, "Announced", PATH, None, Gio.DBusSignalFlags.NONE, arrived)
    call(client, "Announce")
    loop.run()
    assert news == [("news",)]


def test_nobody_can_take_the_name(client: Gio.DBusConnection) -> None:
    replace_existing, do_not_queue, exists = 2, 4, 3
    answer = client.call_sync(
        "org.freedesktop.DBus",
        "/org/freedesktop/DBus",
        "org.freedesktop.DBus",
        "RequestName",
        GLib.Variant("(su)", (NAME, replace_existing | do_not_queue)),
        None,
        Gio.DBusCallFlags.NONE,
        TIMEOUT_MS,
        None,
    )
    assert answer.unpack() == (exists,)


def test_calls_leave_no_memory_behind(client: Gio.DBusConnection) -> None:
    def memory_after(calls: int) -> int:
        for _each in range(calls):
            call(client, "Echo", GLib.Variant("(s)", ("x",)))
        answer = call(client, "Memory")
        assert isinstance(answer, tuple)
        return int(answer[0])

    before = memory_after(500)
    time.sleep(0.1)
    # A leak of 2 kB a call would be 6 MB.
    assert memory_after(3000) - before < 2000


def test_a_bus_that_goes_away_and_comes_back_finds_klpd_there_with_all_its_objects(tmp_path: Path) -> None:
    at = f"unix:path={tmp_path}/bus"
    command = [sys.executable, "-m", "tests.unit.daemon.bus_server"]
    with message_bus(at):
        server = subprocess.Popen(command, env=on_bus(at), stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
    with server:
        time.sleep(1)
        assert server.poll() is None
        with message_bus(at):
            client = connection_to(at)
            deadline = time.monotonic() + TIMEOUT_MS / 1000
            while (answer := echoed(client)) is None:
                assert time.monotonic() < deadline
                time.sleep(0.1)
            assert answer == ("hello",)
            client.close_sync(None)
        server.kill()


def test_who_finds_no_bus_joins_it_when_it_comes(tmp_path: Path) -> None:
    at = f"unix:path={tmp_path}/bus"
    with service(at, "tests.unit.daemon.bus_server"), message_bus(at):
        client = connection_to(at)
        deadline = time.monotonic() + TIMEOUT_MS / 1000
        while echoed(client) is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        client.close_sync(None)


def test_a_second_one_ends_and_the_first_keeps_the_name(address: str, client: Gio.DBusConnection) -> None:
    command = [sys.executable, "-m", "tests.unit.daemon.bus_server"]
    second = subprocess.run(
        command, check=False, env=on_bus(address), capture_output=True, text=True, timeout=TIMEOUT_MS / 1000
    )
    assert (second.returncode, second.stdout) == (ENDED_BY_ITSELF, "")
    assert "somebody else has the name org.klpd1.Test" in second.stderr
    assert call(client, "Echo", GLib.Variant("(s)", ("hello",))) == ("hello",)


def connection_to(address: str) -> Gio.DBusConnection:
    flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
    connection = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
    connection.set_exit_on_close(False)
    return connection


def echoed(client: Gio.DBusConnection) -> object:
    """The answer; None as long as there is nobody who gives one."""
    try:
        return call(client, "Echo", GLib.Variant("(s)", ("hello",)))
    except GLib.Error:
        return None
