# SPDX-License-Identifier: GPL-2.0-or-later
"""Threads that serve items by turns (klpd.daemon.turns)."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from klpd.daemon.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.daemon.turns import Turn

_Item = TypeVar("_Item")


class Workers(Generic[_Item]):
    """Calls `serve`, which raises nothing, with each item that is added, on threads of its own."""

    def __init__(self, serve: Callable[[_Item], None], number: int) -> None:
        self._serve = serve
        self._turns: Turns[_Item] = Turns(number)
        self._changed = threading.Condition()
        self._noticing = 0
        self._stopping = False
        self._threads = [threading.Thread(target=self._work, name="judge", daemon=True) for _each in range(number)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def add(self, item: _Item, user: int | None) -> None:
        """Serve an item when it is its turn, which depends on `user` (klpd.daemon.turns)."""
        with self._changed:
            self._turns.add(item, user)
            # Nobody is woken in vain: whoever is served now takes the next, unless he hangs, which one has to notice.
            if not self._noticing or self._turns.ready(time.monotonic()):
                self._changed.notify()

    def drop(self, item: _Item) -> bool:
        """Do not serve an item any more; whether it had still to wait for its turn."""
        with self._changed:
            return self._turns.drop(item)

    def stop(self) -> None:
        """Serve nobody any more.  What is being served is not waited for."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def _work(self) -> None:
        while (turn := self._next()) is not None:
            self._serve(turn.item)
            with self._changed:
                self._turns.end(turn)

    def _next(self) -> Turn[_Item] | None:
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                turn = self._turns.take(now)
                if turn is not None:
                    if self._turns.ready(now):
                        self._changed.notify()
                    return turn
                patience = self._turns.until_patience_ends(now)
                self._noticing += patience is not None
                self._changed.wait(patience)
                self._noticing -= patience is not None
            return None
