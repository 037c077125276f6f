# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether klpd keeps those waiting whom it holds: what it tells of itself, and what can be told from that.

klpd writes into a page of memory that it shares with klpd-release (klpd.daemon.release), which looks there only while
somebody waits.  All times are CLOCK_MONOTONIC's, in nanoseconds, which is the same clock for both.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from dataclasses import dataclass
from typing import Final

_PAGE: Final = mmap.PAGESIZE
_FIELD: Final = struct.Struct("=Q")  # aligned, so that nobody sees a half of it
_TAKEN, _READING, _WAITING, _TIMEOUT = range(0, 4 * _FIELD.size, _FIELD.size)
GRACE: Final = 300_000_000
"""klpd itself lets go whom it holds for too long, and is a little late at times."""


@dataclass(frozen=True, slots=True)
class Told:
    """What klpd tells of itself: how many events it has taken, the two times by which it wants to have answered (0:
    nobody waits for it), and for how long somebody is held at most.
    """

    taken: int
    reading: int
    waiting: int
    timeout: int

    @property
    def due(self) -> int:
        """When the next answer is due; 0: none is."""
        return min((each for each in (self.reading, self.waiting) if each), default=0)


class Page:
    """The page, as klpd writes it and klpd-release reads it.  `fd` is a memfd."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._memory = mmap.mmap(fd, _PAGE)
        self._lock = threading.Lock()

    @classmethod
    def new(cls) -> Page:
        """A page in which nobody waits."""
        fd = os.memfd_create("klpd-lateness", os.MFD_CLOEXEC)
        os.ftruncate(fd, _PAGE)
        return cls(fd)

    def told(self) -> Told:
        return Told(*(_FIELD.unpack_from(self._memory, at)[0] for at in (_TAKEN, _READING, _WAITING, _TIMEOUT)))

    def took_one(self) -> None:
        """An event was taken."""
        with self._lock:
            (taken,) = _FIELD.unpack_from(self._memory, _TAKEN)
            _FIELD.pack_into(self._memory, _TAKEN, taken + 1)

    def reads_until(self, due: float | None) -> None:
        """Events are being read, and those should be answered by `due` (time.monotonic); None: no more are read."""
        _FIELD.pack_into(self._memory, _READING, _nanoseconds(due))

    def waits_until(self, due: float | None) -> None:
        """The same for those that were read."""
        _FIELD.pack_into(self._memory, _WAITING, _nanoseconds(due))

    def holds_for(self, timeout: float) -> None:
        """Somebody is held for so many seconds at most."""
        _FIELD.pack_into(self._memory, _TIMEOUT, _nanoseconds(timeout))

    def close(self) -> None:
        self._memory.close()
        os.close(self.fd)


class Lateness:
    """Whether klpd is late; looked at while events are there to be read, or answers are due."""

    def __init__(self) -> None:
        self._unread_since: int | None = None
        self._before: Told | None = None
        self._late_with: Told | None = None

    @property
    def late(self) -> bool:
        """Whether klpd was late at the last look."""
        return self._late_with is not None

    def look(self, told: Told, *, unread: bool, now: int) -> bool:
        """Whether all who wait are to be let go now; `unread`: events are there to be read.

        Once klpd was late it is, for whoever comes, until it has done anything.
        """
        if self._late_with is not None and told == self._late_with:
            return unread
        self._late_with = None
        moved = self._before is None or told.taken != self._before.taken
        self._before = told
        if not unread:
            self._unread_since = None
        elif self._unread_since is None or moved:
            self._unread_since = now
        unread_for = 0 if self._unread_since is None else now - self._unread_since
        overdue = told.due != 0 and now > told.due + GRACE
        if overdue or (unread and unread_for > told.timeout):
            self._late_with = told
            self._unread_since = None
            return True
        return False

    def at_ease(self, told: Told, *, unread: bool) -> bool:
        """Whether there is nothing to do until an event is there."""
        return told == self._late_with or (not unread and told.due == 0)


def _nanoseconds(seconds: float | None) -> int:
    return 0 if seconds is None else max(1, round(seconds * 1e9))
