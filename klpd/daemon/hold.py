# SPDX-License-Identifier: GPL-2.0-or-later
"""The hold: whoever opens a livepatch's file waits until its verdict is there, and then goes on, whatever it is.

The hold's own thread opens no path, judges nothing and waits for nobody: it takes the events, hands them to workers
and answers what is overdue.  A worker reads through the event's own descriptor, so that it raises no event itself.
Files that turn out to be no livepatches are ignored until they change, and reach klpd no more.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from klpd.errors import KernelError, ModuleFormatError
from klpd.files import read_descriptor
from klpd.kernel.fanotify import Fanotify
from klpd.kernel.inotify import NewDirectories

if TYPE_CHECKING:
    from collections.abc import Iterable

    from klpd.kernel.fanotify import Opening

log = logging.getLogger(__name__)

_WORKERS: Final = 4


class Examine(Protocol):
    """Judges a file's bytes; true if they are a livepatch (or might be one to the guard)."""

    def __call__(self, data: bytes, file: str, pid: int) -> bool: ...


class TimedOut(Protocol):
    """Is told of an opener that went on without a verdict."""

    def __call__(self, file: str, pid: int) -> None: ...


class Hold:
    """Holds the openers of the files in some directories.  `timeout` (seconds) may change at any time."""

    def __init__(self, examine: Examine, timed_out: TimedOut, *, timeout: float) -> None:
        self._examine = examine
        self._timed_out = timed_out
        self.timeout = timeout
        self._group = Fanotify()
        self._news = NewDirectories()
        self._roots: tuple[Path, ...] = ()
        self._stop = os.eventfd(0, os.EFD_CLOEXEC)
        self._workers = ThreadPoolExecutor(_WORKERS, "judge")
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[Opening, float]] = {}
        self._thread = threading.Thread(target=self._serve, name="hold", daemon=True)
        self._watched: set[Path] = set()

    @property
    def directories(self) -> int:
        """How many directories are watched."""
        return len(self._watched)

    def watch(self, roots: Iterable[Path]) -> None:
        """Watch these directories and all below them, those included that come later.

        One that is not there is passed over.
        """
        self._roots = tuple(roots)
        for root in self._roots:
            self._watch_tree(root)

    def fileno(self) -> int:
        """Readable when `watch_new` has something to do."""
        return self._news.fileno()

    def watch_new(self) -> None:
        """Watch the directories that have appeared below those that are watched."""
        found, lost = self._news.read()
        for folder in self._roots if lost else found:
            self._watch_tree(folder)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let everyone go on and end the thread."""
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._workers.shutdown(cancel_futures=True)
        self._group.close()
        self._news.close()

    def _watch_tree(self, root: Path) -> None:
        folders = [root]
        while folders:
            folder = folders.pop()
            try:
                # Watched before it is listed, so that nothing that comes in between is missed.
                self._news.add(folder)
                self._group.watch(folder)
                folders += [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
            except (KernelError, OSError) as error:
                if getattr(error, "errno", None) != errno.ENOENT:
                    log.warning("%s is not watched: %s", folder, error)
                continue
            self._watched.add(folder)

    def _serve(self) -> None:
        poller = select.poll()
        poller.register(self._group.fileno(), select.POLLIN)
        poller.register(self._stop, select.POLLIN)
        while True:
            ready = poller.poll(self._until_overdue())
            if any(fd == self._stop for fd, _events in ready):
                return
            for opening in self._group.read() if ready else ():
                self._accept(opening)
            self._answer_overdue()

    def _accept(self, opening: Opening) -> None:
        if opening.pid == os.getpid():
            self._group.allow(opening)
            return
        with self._lock:
            self._waiting[opening.fd] = (opening, time.monotonic() + self.timeout)
        self._workers.submit(self._work, opening)

    def _work(self, opening: Opening) -> None:
        try:
            self._look(opening)
        except ModuleFormatError as error:
            log.info("not judged: %s", error)
        except Exception:
            log.exception("the file that process %d opens could not be judged", opening.pid)
        finally:
            self._answer(opening)

    def _look(self, opening: Opening) -> None:
        # An overdue event is answered, and its descriptor closed, while a worker still reads.
        with self._lock:
            if not self._is_waiting(opening):
                return
            fd = os.dup(opening.fd)
        try:
            before = os.fstat(fd)
            file = os.readlink(f"/proc/self/fd/{fd}")
            data = read_descriptor(fd, file)
            if not self._examine(data, file, opening.pid):
                self._ignore(fd, before)
        finally:
            os.close(fd)

    def _ignore(self, fd: int, before: os.stat_result) -> None:
        self._group.ignore(fd)
        after = os.fstat(fd)
        if (before.st_mtime_ns, before.st_ctime_ns, before.st_size) != (
            after.st_mtime_ns,
            after.st_ctime_ns,
            after.st_size,
        ):
            self._group.heed(fd)

    def _answer(self, opening: Opening) -> None:
        with self._lock:
            if self._is_waiting(opening):
                del self._waiting[opening.fd]
                self._group.allow(opening)

    def _is_waiting(self, opening: Opening) -> bool:
        waiting = self._waiting.get(opening.fd)
        return waiting is not None and waiting[0] is opening

    def _until_overdue(self) -> float | None:
        with self._lock:
            if not self._waiting:
                return None
            first = min(deadline for _opening, deadline in self._waiting.values())
        return max(0.0, first - time.monotonic()) * 1000 + 1

    def _answer_overdue(self) -> None:
        now = time.monotonic()
        overdue = []
        with self._lock:
            for opening, deadline in list(self._waiting.values()):
                if deadline <= now:
                    overdue.append((os.readlink(f"/proc/self/fd/{opening.fd}"), opening.pid))
                    del self._waiting[opening.fd]
                    self._group.allow(opening)
        for file, pid in overdue:
            self._timed_out(file, pid)
