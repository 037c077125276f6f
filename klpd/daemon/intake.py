# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes the events of those who are held from the kernel, as soon as they are there.

For each event the kernel opens the file for klpd, on the thread that reads the event.  That may take long: until
whoever has a lease on the file gives it back, or until a server on the network answers.  Without klpd the opener would
wait for the same, and so he is not refused for it (O_NONBLOCK would have the kernel do so).  But nobody else is to wait
for that: a thread that is kept waiting is replaced by another, and called back when even its own opener has waited for
too long, who is refused then.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING, Final, Protocol

from klpd.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.daemon.lateness import Page
    from klpd.kernel.fanotify import Held

log = logging.getLogger(__name__)

CALL_BACK: Final = signal.SIGUSR2
"""Interrupts a thread's system call.  No process is to send it to klpd, and nothing happens if one does."""
_KEPT_WAITING: Final = 0.25
"""Seconds after which a thread that reads an event is replaced: an open on a local disk takes far less."""
_MOST_THREADS: Final = 32
_PAUSE: Final = 0.1
_BREATH: Final = 0.01
_LONG_AGO: Final = 1e-9
"""In the clock's own seconds: whoever waits is late already."""
_SHORT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_MISTAKES: Final = frozenset({errno.EBADF, errno.EFAULT, errno.EINVAL})
"""No event is taken from the queue with these, and the next try ends as this one."""


class Events(Protocol):
    """Where the events come from (klpd.kernel.fanotify)."""

    def fileno(self) -> int: ...

    def read(self) -> Held | None: ...


class _Reader(threading.Thread):
    """A thread that takes events; `since` when it has been reading one (time.monotonic), None while it does not."""

    def __init__(self, serve: Callable[[_Reader], None]) -> None:
        super().__init__(target=serve, args=(self,), name="intake", daemon=True)
        self.since: float | None = None

    def kept_waiting(self, now: float) -> float:
        """For how many seconds it has been reading one event."""
        since = self.since
        return 0.0 if since is None else now - since


class Intake:
    """Gives each event to `take`, and each that could not be had to `failed`, whose opener the kernel has refused.

    Both are called on threads of its own.  `begins` is called there before events are read, after a time in which there
    were none: somebody has to call `look_after` from then on, as often as it says.  To be made on the main thread.

    `page` is told how it does, where somebody is held for `held_for` seconds.  Events for which klpd has no descriptor
    are left where they are if somebody else takes them then (`relieved`): the kernel would refuse their openers.
    """

    def __init__(
        self,
        events: Events,
        take: Callable[[Held], None],
        failed: Callable[[KernelError], None],
        begins: Callable[[], None],
        *,
        page: Page,
        held_for: Callable[[], float],
        relieved: Callable[[], bool],
    ) -> None:
        self._page = page
        self._held_for = held_for
        self._relieved = relieved
        self._short = False
        self._events = events
        self._take = take
        self._failed = failed
        self._begins = begins
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._stopping = False
        signal.signal(CALL_BACK, lambda _number, _frame: None)
        self._reader = _Reader(self._serve)
        self._replaced: list[_Reader] = []
        self.well = True
        """Whether events could be taken the last time that there were some."""

    @property
    def alive(self) -> bool:
        """Whether events are taken."""
        return self._reader.is_alive()

    def start(self) -> None:
        self._reader.start()

    def look_after(self, now: float, longest: float) -> float | None:
        """See to it that nobody waits for a reader that is kept waiting itself, nor its own opener over `longest` (s).

        Returns after how many seconds this is to be called again; None when `begins` has been called again.
        """
        self._replaced = [each for each in self._replaced if each.is_alive()]
        for each in self._replaced:
            if each.kept_waiting(now) > longest:
                self._call_back(each, now)
        if self._reader.kept_waiting(now) > _KEPT_WAITING:
            self._replace(now)
        if self._reader.since is None and not self._replaced:
            return None
        return _KEPT_WAITING

    def stop(self, patience: float) -> bool:
        """End all threads, and wait `patience` seconds for that; whether they have ended."""
        self._stopping = True
        os.eventfd_write(self._stop, 1)
        ends = time.monotonic() + patience
        threads = [self._reader, *self._replaced]
        while any(each.is_alive() for each in threads) and time.monotonic() < ends:
            for each in threads:
                if each.kept_waiting(time.monotonic()) > _KEPT_WAITING:
                    self._interrupt(each)
                each.join(_KEPT_WAITING)
        return not any(each.is_alive() for each in threads)

    def _replace(self, now: float) -> None:
        if len(self._replaced) + 1 >= _MOST_THREADS:
            self._call_back(max(self._replaced, key=lambda each: each.kept_waiting(now)), now)
            return  # there may be one fewer when it is looked after again
        self._replaced.append(self._reader)
        self._reader = _Reader(self._serve)
        self._reader.start()

    def _call_back(self, reader: _Reader, now: float) -> None:
        reader.since = now  # so that it gets as long again for the next event, if it meets one
        self._interrupt(reader)
        self._failed(KernelError("it was kept waiting for the file (by a lease, or by a server)", errno.EINTR))

    def _interrupt(self, reader: _Reader) -> None:
        if reader.ident is not None and reader.is_alive():
            signal.pthread_kill(reader.ident, CALL_BACK)

    def _serve(self, reader: _Reader) -> None:
        poller = select.poll()
        poller.register(self._events.fileno(), select.POLLIN)
        poller.register(self._stop, select.POLLIN)
        while reader is self._reader and not self._stopping:
            try:
                poller.poll()
                self._read_all(reader)
                self.well = True
            except Exception:
                self.well = False
                log.exception("those who open module files are held on after an error")
                time.sleep(_PAUSE)  # an error that stays is not to keep a processor busy

    def _read_all(self, reader: _Reader) -> None:
        reader.since = time.monotonic()
        self._begins()
        try:
            while reader is self._reader and not self._stopping and self._read_one():
                reader.since = time.monotonic()
        finally:
            reader.since = None
            if not self._short:
                self._page.reads_until(None)

    def _read_one(self) -> bool:
        """Whether there was an event."""
        if not self._has_descriptor():
            self._page.reads_until(_LONG_AGO)
            time.sleep(_PAUSE)
            return False
        self._page.reads_until(time.monotonic() + self._held_for())
        try:
            held = self._events.read()
        except KernelError as error:
            if error.errno in _MISTAKES:
                raise
            if error.errno == errno.EOVERFLOW:
                log.warning("openers of module files went on unjudged, since the kernel's queue of them was full")
            else:
                self._failed(error)
            if error.errno in _SHORT:
                time.sleep(_BREATH)  # those whose events are still in the queue may be luckier
            return True
        if held is not None:
            self._page.took_one()
            self._take(held)
        return held is not None

    def _has_descriptor(self) -> bool:
        """Whether the kernel can have one for the next event; or nobody else takes that."""
        try:
            os.close(os.dup(self._stop))
        except OSError as error:
            if self._relieved():
                if not self._short:
                    log.error("who opens module files goes on without a verdict: %s", error.strerror)
                self._short = True
                return False
        if self._short:
            self._short = False
            log.warning("who opens module files waits for a verdict again")
        return True
