# SPDX-License-Identifier: GPL-2.0-or-later
"""The hold: whoever opens a livepatch's file waits until its verdict is there, and then goes on, whatever it is.

The hold's own thread opens no path, judges nothing and waits for nobody: it takes the events, hands them to workers
and answers what is overdue.  A worker reads through the event's own descriptor, so that it raises no event itself.
Files that turn out to be no livepatches are ignored until they change, and reach klpd no more.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol

from klpd.daemon.directories import Directories
from klpd.errors import KernelError, ModuleFormatError
from klpd.files import read_descriptor
from klpd.kernel.fanotify import Fanotify

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from klpd.kernel.fanotify import Opening

log = logging.getLogger(__name__)

_WORKERS: Final = 4
_PAUSE: Final = 0.1


class Examine(Protocol):
    """Judges a file's bytes; true if they are a livepatch (or might be one to the guard).

    Raises ModuleFormatError where that cannot be told.
    """

    def __call__(self, data: bytes, file: str, pid: int) -> bool: ...


class TimedOut(Protocol):
    """Is told of an opener that went on without a verdict."""

    def __call__(self, file: str, pid: int) -> None: ...


class Hold:
    """Holds the openers of the files in some directories.  `timeout` (seconds) may change at any time.

    Raises KernelError where the kernel has no such thing.
    """

    def __init__(self, examine: Examine, timed_out: TimedOut, *, timeout: float) -> None:
        self._examine = examine
        self._timed_out = timed_out
        self.timeout = timeout
        self._group = Fanotify()
        self._directories = Directories(self._group)
        # By descriptor.  Whoever takes an opening out answers it, once; a worker closes the descriptor after that, so
        # that no two openings ever have the same one.
        self._waiting: dict[int, tuple[Opening, float]] = {}
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Opening | None] = SimpleQueue()
        self._workers = [threading.Thread(target=self._judge, name="judge", daemon=True) for _ in range(_WORKERS)]
        self._thread = threading.Thread(target=self._serve, name="hold", daemon=True)
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC)
        self._stopping = False
        self._came_round = True

    @property
    def directories(self) -> int:
        """How many directories are watched."""
        return len(self._directories)

    @property
    def alive(self) -> bool:
        """Whether anybody is held at all."""
        return self._thread.is_alive()

    def watch(self, roots: Iterable[Path]) -> None:
        """Hold the openers of the files in these directories and all below them, and from now on of no others.

        Directories that are made, moved or mounted there later are included.
        """
        self._directories.watch(roots)

    def responsive(self) -> bool:
        """Whether the hold's thread has come round since this was last asked: it answers in time only if it does."""
        came_round, self._came_round = self._came_round, False
        os.eventfd_write(self._wakeup, 1)
        return came_round

    def start(self) -> None:
        """To be called before `watch`."""
        for thread in (*self._workers, self._thread):
            thread.start()

    def stop(self) -> None:
        """Let everyone go on and end the threads.  A worker that hangs is not waited for."""
        self._directories.stop()
        self._stopping = True
        os.eventfd_write(self._wakeup, 1)
        self._thread.join()

    def _serve(self) -> None:
        poller = select.poll()
        poller.register(self._group.fileno(), select.POLLIN)
        poller.register(self._wakeup, select.POLLIN)
        try:
            while not self._stopping:
                try:
                    self._serve_once(poller)
                    self._came_round = True
                except Exception:
                    log.exception("the hold goes on after an error")
                    time.sleep(_PAUSE)  # an error that stays is not to keep a processor busy
        finally:
            self._let_go()

    def _serve_once(self, poller: select.poll) -> None:
        ready = {fd for fd, _events in poller.poll(self._until_overdue())}
        if self._wakeup in ready:
            os.eventfd_read(self._wakeup)
        if self._group.fileno() in ready:
            openings, lost = self._group.read()
            self._accept(openings)
            if lost:
                log.warning("openers of module files went on unjudged, since the kernel's queue of them was full")
        self._answer_overdue()

    def _accept(self, openings: list[Opening]) -> None:
        deadline = time.monotonic() + self.timeout
        with self._lock:
            self._waiting.update((each.fd, (each, deadline)) for each in openings)
        for opening in openings:
            if opening.pid == os.getpid():
                self._answer(opening)
            self._queue.put(opening)

    def _judge(self) -> None:
        while (opening := self._queue.get()) is not None:
            try:
                self._judge_one(opening)
            except ModuleFormatError as error:
                log.info("not judged: %s", error)
            except Exception:
                log.exception("the file that process %d opens could not be judged", opening.pid)

    def _judge_one(self, opening: Opening) -> None:
        try:
            if self._is_waiting(opening):
                self._look(opening)
        finally:
            self._answer(opening)
            os.close(opening.fd)

    def _look(self, opening: Opening) -> None:
        before = os.fstat(opening.fd)
        file = _path(opening)
        data = read_descriptor(opening.fd, file)
        if not self._examine(data, file, opening.pid):
            self._ignore(opening, file, before)

    def _ignore(self, opening: Opening, file: str, before: os.stat_result) -> None:
        try:
            self._group.ignore(opening.fd)
            if _version(before) != _version(os.fstat(opening.fd)):
                self._group.heed(opening.fd)
        except KernelError as error:
            # It costs a look at each open, and is no reason to log more than that.
            log.debug("%s will be looked at again: %s", file, error)

    def _answer(self, opening: Opening) -> None:
        """Let the opener go on, unless somebody has already."""
        with self._lock:
            if self._is_waiting(opening):
                del self._waiting[opening.fd]
                self._group.allow(opening)

    def _is_waiting(self, opening: Opening) -> bool:
        waiting = self._waiting.get(opening.fd)
        return waiting is not None and waiting[0] is opening

    def _until_overdue(self) -> float | None:
        """Milliseconds; None while nobody waits."""
        with self._lock:
            first = min((deadline for _opening, deadline in self._waiting.values()), default=None)
        return None if first is None else max(0.0, first - time.monotonic()) * 1000 + 1

    def _answer_overdue(self) -> None:
        now = time.monotonic()
        with self._lock:  # while it is held, no worker closes a descriptor of these
            overdue = [opening for opening, deadline in self._waiting.values() if deadline <= now]
            told = [(_path(opening), opening.pid) for opening in overdue]
            for opening in overdue:
                del self._waiting[opening.fd]
                self._group.allow(opening)
        for file, pid in told:
            self._timed_out(file, pid)

    def _let_go(self) -> None:
        # Closing the group lets everyone go on, those included of whom klpd has not read yet.
        with self._lock:
            self._waiting.clear()
            self._group.close()
        for _worker in self._workers:
            self._queue.put(None)


def _path(opening: Opening) -> str:
    return os.readlink(f"/proc/self/fd/{opening.fd}")


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size
