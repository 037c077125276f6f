# SPDX-License-Identifier: GPL-2.0-or-later
"""Whose file is looked at next: who may load modules goes first, and all others share what is left.

Python runs one thread at a time, so each file that is judged beside another takes time from that.  Hence others get
their turn while nobody waits, or is served, who may load modules, and one of them at a time: whoever comes and may,
finds at most one other at work, and none begins as long as he waits.  So no number of others makes him wait for more
than twice his time.  Among others each user has his turn.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

PATIENCE: Final = 2.0
"""Seconds after which a turn counts no more: it waits for a disk, say, and nobody else is to wait for that."""

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, eq=False)
class Turn(Generic[_Item]):
    """An item that is being served since `began` (time.monotonic); `first`: it is of somebody who may load modules."""

    item: _Item
    first: bool
    began: float


class Turns(Generic[_Item]):
    """Who waits and who is served, on no thread and by no clock of its own.

    `workers` can be served at a time, and of others so many at most that half of the workers are left.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._first: dict[_Item, None] = {}
        self._others: OrderedDict[int, dict[_Item, None]] = OrderedDict()  # by user id, in the order of their turns
        self._users: dict[_Item, int] = {}
        self._served: list[Turn[_Item]] = []

    def __len__(self) -> int:
        """How many wait."""
        return len(self._first) + len(self._users)

    def add(self, item: _Item, user: int | None) -> None:
        """Let an item wait for its turn: `user` is who has to share, None is for who may load modules."""
        if user is None:
            self._first[item] = None
        else:
            self._others.setdefault(user, {})[item] = None
            self._users[item] = user

    def drop(self, item: _Item) -> bool:
        """Let an item wait no longer; whether it did."""
        if item in self._first:
            del self._first[item]
            return True
        user = self._users.pop(item, None)
        if user is None:
            return False
        self._forget(user, item)
        return True

    def ready(self, now: float) -> bool:
        """Whether it is somebody's turn."""
        if len(self._served) >= self._workers:
            return False
        return bool(self._first) or (bool(self._users) and not self._others_wait(now))

    def take(self, now: float) -> Turn[_Item] | None:
        """Whose turn it is; None if nobody's.  It is served until `end`."""
        if not self.ready(now):
            return None
        if self._first:
            item = next(iter(self._first))
            del self._first[item]
            return self._begin(item, now, first=True)
        user, items = next(iter(self._others.items()))
        item = next(iter(items))
        self._forget(user, item)
        del self._users[item]
        if user in self._others:
            self._others.move_to_end(user)
        return self._begin(item, now, first=False)

    def end(self, turn: Turn[_Item]) -> None:
        """The item was served."""
        self._served.remove(turn)

    def until_patience_ends(self, now: float) -> float | None:
        """Seconds after which `take` may give a turn, though nothing is added or ended till then; None if never."""
        if not self._users:
            return None
        ends = [each.began + PATIENCE - now for each in self._served if each.began + PATIENCE > now]
        return min(ends, default=None)

    def _others_wait(self, now: float) -> bool:
        others = sum(not each.first for each in self._served)
        return others >= self._workers // 2 or any(now < each.began + PATIENCE for each in self._served)

    def _begin(self, item: _Item, now: float, *, first: bool) -> Turn[_Item]:
        turn = Turn(item, first, now)
        self._served.append(turn)
        return turn

    def _forget(self, user: int, item: _Item) -> None:
        del self._others[user][item]
        if not self._others[user]:
            del self._others[user]
