# SPDX-License-Identifier: GPL-2.0-or-later
"""polkit is asked, and not for ever; what it and the bus say reaches people as a sentence."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from gi.repository import Gio, GLib

from klpd.daemon import authority
from klpd.daemon.authority import Authority, PolkitAction
from klpd.daemon.call import Call
from klpd.errors import NotAuthorizedError
from tests.unit.private_bus import message_bus, service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

SOON = 20.0


@pytest.fixture
def connection() -> Iterator[Gio.DBusConnection]:
    """A connection to a bus with a polkit."""
    flags = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION
    with message_bus() as address, service(address, "tests.unit.daemon.polkit_server"):
        made = Gio.DBusConnection.new_for_address_sync(address, flags, None, None)
        made.set_exit_on_close(False)
        yield made
        made.close_sync(None)


def call(connection: Gio.DBusConnection, uid: int = 1000, *, interactive: bool = True) -> Call:
    return Call(connection.get_unique_name() or "", uid, (), interactive=interactive, fds=None)


def why_not(answer: Future[None]) -> str:
    """What the "no" says, once it is there."""
    deadline = time.monotonic() + SOON
    while not answer.done():
        assert time.monotonic() < deadline
        GLib.MainContext.default().iteration(False)
        time.sleep(0.005)
    error = answer.exception()
    if error is None:
        return ""
    assert isinstance(error, NotAuthorizedError)
    return str(error)


def test_root_is_not_asked_about_and_others_are(connection: Gio.DBusConnection) -> None:
    asked = Authority(lambda: connection)
    assert asked.authorize(call(connection, 0), PolkitAction.APPLY, {}).answer.done()
    assert why_not(asked.authorize(call(connection), PolkitAction.REVERT, {}).answer) == ""


@pytest.mark.parametrize("interactive", [True, False])
def test_an_answer_that_does_not_come_is_a_no(
    connection: Gio.DBusConnection, monkeypatch: pytest.MonkeyPatch, interactive: bool
) -> None:
    monkeypatch.setattr(authority, "TYPING_SECONDS" if interactive else "_ANSWERING_SECONDS", 1)
    answer = (
        Authority(lambda: connection)
        .authorize(call(connection, interactive=interactive), PolkitAction.APPLY, {})
        .answer
    )
    assert why_not(answer) == (
        "whether org.klpd1.apply is allowed could not be found out: there was no answer within 1 s"
    )


def test_a_question_that_is_withdrawn_is_answered_at_once(connection: Gio.DBusConnection) -> None:
    authorization = Authority(lambda: connection).authorize(call(connection), PolkitAction.APPLY, {})
    GLib.MainContext.default().iteration(False)
    assert not authorization.answer.done()
    authorization.withdraw()
    assert "canceled" in why_not(authorization.answer)


def test_what_came_over_the_bus_is_told_without_the_names_of_errors(connection: Gio.DBusConnection) -> None:
    asked = Authority(lambda: connection)
    gone = "whoever asked has left the bus meanwhile"
    assert why_not(asked.authorize(call(connection), PolkitAction.DISABLE, {}).answer).endswith(f": {gone}")
    faulty = why_not(asked.authorize(call(connection), PolkitAction.RELOAD, {}).answer)
    assert faulty == "whether org.klpd1.reload is allowed could not be found out: the agent said nonsense"
