# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may do what: polkit asked without stopping the main loop, however long somebody takes to type a password.

root may do everything, with or without polkit; without polkit nobody else may do anything that changes something.
https://www.freedesktop.org/software/polkit/docs/latest/eggdbus-interface-org.freedesktop.PolicyKit1.Authority.html
"""

from __future__ import annotations

from concurrent.futures import Future
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from gi.repository import Gio, GLib

from klpd.errors import NotAuthorizedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from klpd.daemon.call import Call

_FOREVER: Final = (1 << 31) - 1  # G_MAXINT: somebody may be typing a password
_ALLOW_USER_INTERACTION: Final = 1
_POLKIT: Final = "org.freedesktop.PolicyKit1"


class PolkitAction(StrEnum):
    """The actions of org.klpd1.policy."""

    APPLY = "org.klpd1.apply"
    DISABLE = "org.klpd1.disable"
    REVERT = "org.klpd1.revert"
    FORCE = "org.klpd1.force"
    RELOAD = "org.klpd1.reload"
    GUARD = "org.klpd1.guard"
    CANCEL = "org.klpd1.cancel"


class Authority:
    """Asks the bus who a caller is, and polkit what he may do."""

    def __init__(self, connection: Gio.DBusConnection) -> None:
        self._connection = connection

    def identify(self, call: Call) -> Future[int]:
        """The caller's uid; the future raises NotAuthorizedError where the bus does not tell it."""
        identified: Future[int] = Future()
        self._ask_who(call, identified, identified.set_result)
        return identified

    def authorize(
        self,
        call: Call,
        action: PolkitAction,
        details: Mapping[str, str],
        *,
        free_for: Callable[[int], bool] = lambda _uid: False,
    ) -> Future[int]:
        """The caller's uid, once he is known to be allowed `action`; else the future raises NotAuthorizedError.

        `details` are what a polkit rule may look up (action.lookup in polkit(8)).  Those whom `free_for` names need no
        authorization.
        """
        authorized: Future[int] = Future()

        def identified(uid: int) -> None:
            if uid == 0 or free_for(uid):
                authorized.set_result(uid)
            else:
                self._ask_polkit(authorized, call, action, details, uid=uid)

        self._ask_who(call, authorized, identified)
        return authorized

    def _ask_who(self, call: Call, future: Future[int], then: Callable[[int], None]) -> None:
        self._ask(
            future,
            ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus", "GetConnectionUnixUser"),
            GLib.Variant("(s)", (call.sender,)),
            lambda answer: then(answer.get_child_value(0).get_uint32()),
        )

    def _ask_polkit(
        self, authorized: Future[int], call: Call, action: PolkitAction, details: Mapping[str, str], *, uid: int
    ) -> None:
        def answered(answer: GLib.Variant) -> None:
            result = answer.get_child_value(0)
            allowed, challenge = (result.get_child_value(each).get_boolean() for each in (0, 1))
            if allowed:
                authorized.set_result(uid)
            elif challenge and not call.interactive:
                authorized.set_exception(
                    NotAuthorizedError(f"{action} needs authentication, which this call does not allow to ask for")
                )
            else:
                authorized.set_exception(NotAuthorizedError(f"polkit does not allow {action} to this caller"))

        subject = ("system-bus-name", {"name": GLib.Variant("s", call.sender)})
        flags = _ALLOW_USER_INTERACTION if call.interactive else 0
        self._ask(
            authorized,
            (_POLKIT, "/org/freedesktop/PolicyKit1/Authority", f"{_POLKIT}.Authority", "CheckAuthorization"),
            GLib.Variant("((sa{sv})sa{ss}us)", (subject, action.value, dict(details), flags, "")),
            answered,
        )

    def _ask(
        self,
        authorized: Future[int],
        method: tuple[str, str, str, str],
        arguments: GLib.Variant,
        then: Callable[[GLib.Variant], None],
    ) -> None:
        def finished(connection: Gio.DBusConnection, result: Gio.AsyncResult) -> None:
            try:
                answer = connection.call_finish(result)
            except GLib.Error as error:
                authorized.set_exception(NotAuthorizedError(f"who may do this could not be found out: {error.message}"))
            else:
                then(answer)

        name, path, interface, member = method
        self._connection.call(
            name, path, interface, member, arguments, None, Gio.DBusCallFlags.NONE, _FOREVER, None, finished
        )
