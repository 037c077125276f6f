# SPDX-License-Identifier: GPL-2.0-or-later
"""The hold: whoever opens a livepatch's file waits until its verdict is there, and then goes on, whatever it is.

Where the kernel has no guard, readers are held as well, and one that is loading a livepatch may be refused
(klpd.daemon.fallback).

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
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from klpd.daemon.directories import Directories
from klpd.daemon.waiting import Waiting, path_of
from klpd.errors import KernelError, ModuleFormatError
from klpd.files import read_descriptor
from klpd.kernel.fanotify import Fanotify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from klpd.daemon.fallback import FileLoad
    from klpd.kernel.fanotify import Held

log = logging.getLogger(__name__)

_WORKERS: Final = 4
_PAUSE: Final = 0.1
_MOMENT: Final = 0.001
"""Seconds in which a thread that has raised an event is likely to have gone to sleep."""

_Found = TypeVar("_Found")


class Examine(Protocol):
    """Judges a file's bytes; true if they are a livepatch (or might be one to the guard).

    Raises ModuleFormatError where that cannot be told.
    """

    def __call__(self, data: bytes, file: str, pid: int) -> bool: ...


class Loads(Protocol):
    """Judges what is loaded from files (klpd.daemon.fallback).

    The first two raise KernelError where it cannot be seen who is loading.
    """

    def is_loading(self, tid: int) -> bool | None: ...

    def judge(self, data: bytes, file: str, tid: int) -> FileLoad | None: ...

    def answered(self, load: FileLoad) -> None: ...


class TimedOut(Protocol):
    """Is told of an opener, or a reader, that went on without a verdict."""

    def __call__(self, file: str, pid: int, *, reading: bool) -> None: ...


class Hold:
    """Holds the openers of the files in some directories.  `timeout` (seconds) may change at any time.

    With `loads`, readers are held, too, and those are refused that load what is not to be loaded.  Each read(2) of a
    livepatch then costs a question.

    Raises KernelError where the kernel has no such thing.
    """

    def __init__(self, examine: Examine, timed_out: TimedOut, *, timeout: float, loads: Loads | None = None) -> None:
        self._examine = examine
        self._loads = loads
        self._timed_out = timed_out
        self.timeout = timeout
        self._group = Fanotify(readers=loads is not None)
        self._directories = Directories(self._group)
        self._waiting = Waiting(self._group)
        self._queue: SimpleQueue[Held | None] = SimpleQueue()
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
        ready = {fd for fd, _events in poller.poll(self._waiting.until_overdue())}
        if self._wakeup in ready:
            os.eventfd_read(self._wakeup)
        if self._group.fileno() in ready:
            held, lost = self._group.read()
            self._accept(held)
            if lost:
                log.warning("openers of module files went on unjudged, since the kernel's queue of them was full")
        for late, file in self._waiting.let_overdue_go():
            self._timed_out(file, late.pid, reading=late.reading)

    def _accept(self, held: list[Held]) -> None:
        self._waiting.add(held, time.monotonic() + self.timeout)
        for each in held:
            if _is_own(each.pid):
                self._waiting.answer(each)
            self._queue.put(each)

    def _judge(self) -> None:
        while (held := self._queue.get()) is not None:
            try:
                if held.reading and self._loads is not None:
                    self._judge_reader(held, self._loads)
                else:
                    self._judge_opener(held)
            except ModuleFormatError as error:
                log.info("not judged: %s", error)
            except KernelError as error:
                log.warning("not judged: %s", error)
            except Exception:
                log.exception("the file that process %d opens could not be judged", held.pid)

    def _judge_opener(self, held: Held) -> None:
        try:
            if held in self._waiting:
                self._look(held, self._examine)
        finally:
            self._waiting.answer(held)
            os.close(held.fd)

    def _judge_reader(self, held: Held, loads: Loads) -> None:
        load = None
        try:
            if self._is_loading(held, loads):
                load = self._look(held, loads.judge)
        finally:
            answered = self._waiting.answer(held, refuse=load is not None and load.refused)
            os.close(held.fd)
        if answered and load is not None:
            loads.answered(load)

    def _is_loading(self, held: Held, loads: Loads) -> bool:
        while held in self._waiting:
            loading = loads.is_loading(held.pid)
            if loading is not None:
                return loading
            time.sleep(_MOMENT)
        return False

    def _look(self, held: Held, judge: Callable[[bytes, str, int], _Found]) -> _Found:
        before = os.fstat(held.fd)
        file = path_of(held)
        found = judge(read_descriptor(held.fd, file), file, held.pid)
        if not found:
            self._ignore(held, file, before)
        return found

    def _ignore(self, held: Held, file: str, before: os.stat_result) -> None:
        try:
            self._group.ignore(held.fd)
            if _version(before) != _version(os.fstat(held.fd)):
                self._group.heed(held.fd)
        except KernelError as error:
            # It costs a look at each open, and is no reason to log more than that.
            log.debug("%s will be looked at again: %s", file, error)

    def _let_go(self) -> None:
        self._waiting.close()
        for _worker in self._workers:
            self._queue.put(None)


def _is_own(pid: int) -> bool:
    """Whether a process, or a thread, is klpd's."""
    return pid == os.getpid() or any(each.native_id == pid for each in threading.enumerate())


def _version(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size
