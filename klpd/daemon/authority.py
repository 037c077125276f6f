# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may do what: polkit asked without stopping the main loop, however long somebody takes to type a password.

root may do everything, with or without polkit; without polkit nobody else may do anything that changes something.
https://www.freedesktop.org/software/polkit/docs/latest/eggdbus-interface-org.freedesktop.PolicyKit1.Authority.html
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from gi.repository import Gio, GLib

from klpd.daemon.bus import what_failed
from klpd.errors import NotAuthorizedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from klpd.daemon.call import Call

TYPING_SECONDS: Final = 300
"""For somebody to type a password, and for polkit to say whether it was the right one."""
_ANSWERING_SECONDS: Final = 60
"""For polkit to be started, and to answer, where nobody is asked."""
_ROOT: Final = 0
_ALLOW_USER_INTERACTION: Final = 1
_POLKIT: Final = "org.freedesktop.PolicyKit1"
_POLKIT_PATH: Final = "/org/freedesktop/PolicyKit1/Authority"


class PolkitAction(StrEnum):
    """The actions of org.klpd1.policy."""

    APPLY = "org.klpd1.apply"
    APPROVE = "org.klpd1.approve"
    DISABLE = "org.klpd1.disable"
    REVERT = "org.klpd1.revert"
    FORCE = "org.klpd1.force"
    RELOAD = "org.klpd1.reload"
    GUARD = "org.klpd1.guard"
    CANCEL = "org.klpd1.cancel"


class AuthenticationNeededError(NotAuthorizedError):
    """polkit would allow it to whoever types the right password."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """An answer that is asked for: the future raises NotAuthorizedError for a "no".

    `withdraw` tells polkit that nobody needs it any more, so that nobody is asked for a password any longer.
    """

    answer: Future[None]
    withdraw: Callable[[], None]


class Authority:
    """Asks polkit what a caller may do, on the bus that `connection` gives; None where there is none."""

    def __init__(self, connection: Callable[[], Gio.DBusConnection | None]) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)

    def authorize(
        self, call: Call, action: PolkitAction, details: Mapping[str, str], *, ask: bool = True
    ) -> Authorization:
        """Whether the caller may do `action`.  Without `ask`, nobody is asked for a password in any case.

        `details` are what a polkit rule may look up (action.lookup in polkit(8)).  Without an answer in
        TYPING_SECONDS, or far less where nobody is to be asked for a password, it is a "no".
        """
        answer: Future[None] = Future()
        if call.uid == _ROOT:
            answer.set_result(None)
            return Authorization(answer, lambda: None)
        interactive = ask and call.interactive
        seconds = TYPING_SECONDS if interactive else _ANSWERING_SECONDS
        number = f"klpd-{next(self._numbers)}"

        def answered(said: GLib.Variant) -> None:
            result = said.get_child_value(0)
            allowed, challenge = (result.get_child_value(each).get_boolean() for each in (0, 1))
            if allowed:
                answer.set_result(None)
            elif challenge and not interactive:
                answer.set_exception(
                    AuthenticationNeededError(
                        f"{action} needs authentication, which this call does not allow to ask for"
                    )
                )
            else:
                answer.set_exception(NotAuthorizedError(f"polkit does not allow {action} to this caller"))

        def withdraw() -> None:
            if not answer.done():
                self._withdraw(number)

        def failed(why: str) -> NotAuthorizedError:
            self._withdraw(number)
            return NotAuthorizedError(f"whether {action} is allowed could not be found out: {why}")

        subject = ("system-bus-name", {"name": GLib.Variant("s", call.sender)})
        flags = _ALLOW_USER_INTERACTION if interactive else 0
        self._ask(
            answer,
            (_POLKIT, _POLKIT_PATH, f"{_POLKIT}.Authority", "CheckAuthorization"),
            GLib.Variant("((sa{sv})sa{ss}us)", (subject, action.value, dict(details), flags, number)),
            seconds,
            answered,
            failed,
        )
        return Authorization(answer, withdraw)

    def _withdraw(self, number: str) -> None:
        connection = self._connection()
        if connection is None:
            return  # polkit hears that who asked is gone
        connection.call(
            _POLKIT,
            _POLKIT_PATH,
            f"{_POLKIT}.Authority",
            "CancelCheckAuthorization",
            GLib.Variant("(s)", (number,)),
            None,
            Gio.DBusCallFlags.NO_AUTO_START,
            _ANSWERING_SECONDS * 1000,
            None,
            None,
        )

    def _ask(
        self,
        future: Future[None],
        method: tuple[str, str, str, str],
        arguments: GLib.Variant,
        seconds: int,
        then: Callable[[GLib.Variant], None],
        failed: Callable[[str], NotAuthorizedError],
    ) -> None:
        def finished(connection: Gio.DBusConnection, result: Gio.AsyncResult) -> None:
            try:
                answer = connection.call_finish(result)
            except GLib.Error as error:
                future.set_exception(failed(what_failed(error, seconds)))
            else:
                then(answer)

        connection = self._connection()
        if connection is None:
            future.set_exception(failed("the system bus is gone"))
            return
        connection.call(*method, arguments, None, Gio.DBusCallFlags.NONE, seconds * 1000, None, finished)
