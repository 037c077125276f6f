# SPDX-License-Identifier: GPL-2.0-or-later
"""Who is held, and until when: everyone is answered once, by whoever comes first."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.kernel.fanotify import Fanotify, Held


class Waiting:
    """Those whom a group holds and nobody has answered.  Safe to use from any thread.

    The descriptor of an event may be closed once `answer` has been called for it: so no two ever have the same one
    here.  `tell_due` is told by when the next answer is due (time.monotonic; None: nobody waits), as often as it is
    another.
    """

    def __init__(self, group: Fanotify, tell_due: Callable[[float | None], None] = lambda _due: None) -> None:
        self._group = group
        self._tell_due = tell_due
        self._deadlines: dict[int, tuple[Held, float]] = {}  # by descriptor; CLOCK_MONOTONIC
        self._lock = threading.Lock()

    def __contains__(self, held: Held) -> bool:
        waiting = self._deadlines.get(held.fd)
        return waiting is not None and waiting[0] is held

    def __len__(self) -> int:
        return len(self._deadlines)

    def add(self, held: Held, deadline: float) -> None:
        """Wait for an answer to this until `deadline` (time.monotonic)."""
        with self._lock:
            self._deadlines[held.fd] = held, deadline
            if len(self._deadlines) == 1:
                self._tell_due(deadline)

    def answer(self, held: Held, *, refuse: bool = False) -> bool:
        """Let go on or refuse, unless there was an answer already; whether this was it."""
        with self._lock:
            if held not in self:
                return False
            del self._deadlines[held.fd]
            if refuse:
                self._group.refuse(held)
            else:
                self._group.allow(held)
            self._tell_first()
            return True

    def until_overdue(self) -> float | None:
        """Seconds until the first deadline; None while nobody waits."""
        with self._lock:
            first = min((deadline for _held, deadline in self._deadlines.values()), default=None)
        return None if first is None else max(0.0, first - time.monotonic())

    def let_overdue_go(self) -> list[tuple[Held, str]]:
        """Let those go on who have waited too long; who they are, with the paths of their files."""
        now = time.monotonic()
        with self._lock:
            overdue = [held for held, deadline in self._deadlines.values() if deadline <= now]
            told = [
                (held, path_of(held)) for held in overdue
            ]  # nobody closes a descriptor of these as long as it waits
            for held in overdue:
                del self._deadlines[held.fd]
                self._group.allow(held)
            self._tell_first()
        return told

    def close(self) -> None:
        """Close the group, which lets everyone go on, those included of whom klpd has not read yet."""
        with self._lock:
            self._deadlines.clear()
            self._tell_first()
            self._group.close()

    def _tell_first(self) -> None:
        # In the order in which they came, and but for a change of the policy they are due in that order, too.
        first = next(iter(self._deadlines.values()), None)
        self._tell_due(None if first is None else first[1])


def path_of(held: Held) -> str:
    """The path of the file that is opened or read, as it is now."""
    return os.readlink(f"/proc/self/fd/{held.fd}")
