# SPDX-License-Identifier: GPL-2.0-or-later
"""Who calls klpd, and how many calls of each user it answers at once: nobody gets so much of it that others wait.

The bus knows a connection's user for as long as it lasts, and never gives a connection's name to another.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Final, Protocol

from klpd.errors import KlpdError, LimitError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

MOST_OF_ONE: Final = 16
"""Calls of one user that are answered at once."""
MOST_OF_ALL: Final = 64
"""Calls of all users together.  root is not counted: whoever is root can do more than keep klpd busy."""
_MOST_UNIDENTIFIED: Final = 64
"""Calls of one connection, as long as the bus has not told whose it is."""
_REMEMBERED: Final = 1024
_ROOT: Final = 0


class Waiter(Protocol):
    """A call: it is let in, or not, once."""

    def admitted(self, uid: int, answered: Callable[[], None]) -> None:
        """It is to be answered, for the user `uid`; `answered` is to be called when it was."""
        ...

    def refused(self, error: KlpdError) -> None:
        """It is not, and this is why."""
        ...


class Callers:
    """Lets calls in; to be used on one thread.  `ask` asks the bus for the uid of a connection by its unique name."""

    def __init__(self, ask: Callable[[str], Future[int]]) -> None:
        self._ask = ask
        self._known: OrderedDict[str, int] = OrderedDict()
        self._asked: dict[str, list[Waiter]] = {}
        self._answered: Counter[int] = Counter()

    def admit(self, sender: str, call: Waiter) -> None:
        """Let a call in, now or later.

        It is refused with LimitError where too many calls of that user's, or of all, are being answered, and with
        NotAuthorizedError where the bus does not tell whose it is.
        """
        uid = self._known.get(sender)
        if uid is not None:
            self._enter(uid, call)
            return
        waiting = self._asked.get(sender)
        if waiting is None:
            self._asked[sender] = [call]
            self._ask(sender).add_done_callback(lambda told: self._identified(sender, told))
        elif len(waiting) < _MOST_UNIDENTIFIED:
            waiting.append(call)
        else:
            call.refused(
                LimitError(f"{_MOST_UNIDENTIFIED} calls wait until it is known whose they are; wait for answers")
            )

    def forget(self) -> None:
        """Another bus may give the same names to others."""
        self._known.clear()

    def _identified(self, sender: str, told: Future[int]) -> None:
        waiting = self._asked.pop(sender, [])
        error = told.exception()
        if error is None:
            self._known[sender] = told.result()
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        for call in waiting:
            if error is None:
                self._enter(told.result(), call)
            else:
                call.refused(error if isinstance(error, KlpdError) else KlpdError(str(error)))

    def _enter(self, uid: int, call: Waiter) -> None:
        if uid == _ROOT:
            call.admitted(uid, lambda: None)
            return
        if self._answered[uid] >= MOST_OF_ONE:
            call.refused(LimitError(f"{MOST_OF_ONE} calls of yours are being answered; wait for one of the answers"))
            return
        if self._answered.total() >= MOST_OF_ALL:
            call.refused(LimitError(f"{MOST_OF_ALL} calls of users are being answered; try again"))
            return
        self._answered[uid] += 1
        call.admitted(uid, lambda: self._leave(uid))

    def _leave(self, uid: int) -> None:
        self._answered[uid] -= 1
        if not self._answered[uid]:
            del self._answered[uid]
