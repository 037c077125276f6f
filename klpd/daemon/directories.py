# SPDX-License-Identifier: GPL-2.0-or-later
"""Which directories the hold watches: all below its roots, those that come, are moved or are mounted there later too.

Looking through directories opens them, which may take long (a network, an automounter), so it has a thread of its
own.  The roots' parents are listened to as well: a root that is not there is watched as soon as it is.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol

from klpd.errors import KernelError
from klpd.kernel.inotify import NewDirectories
from klpd.kernel.mounts import Mounts

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

_PATIENCE: Final = 10.0
_PAUSE: Final = 1.0


class Marks(Protocol):
    """What watches the files of single directories (klpd.kernel.fanotify).  Both methods raise KernelError."""

    def watch(self, directory: Path) -> None: ...

    def unwatch(self, directory: Path) -> None: ...


class Directories:
    """Keeps the marks where they belong."""

    def __init__(self, marks: Marks) -> None:
        self._marks = marks
        self._news = NewDirectories()
        self._mounts = Mounts()
        self._mounted = self._mounts.read()
        self._roots: tuple[Path, ...] = ()
        self._resolved: tuple[Path, ...] = ()
        self._ancestors: set[Path] = set()
        self._marked: set[Path] = set()
        self._requests: SimpleQueue[tuple[tuple[Path, ...], threading.Event] | None] = SimpleQueue()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._serve, name="directories", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many directories are watched."""
        return len(self._marked)

    def watch(self, roots: Iterable[Path]) -> None:
        """Watch these directories and all below them, and from now on no others.

        Waits until that is done, unless it takes very long; then it goes on by itself.
        """
        done = threading.Event()
        self._ask((tuple(roots), done))
        if not done.wait(_PATIENCE):
            log.warning("it takes long to look through the directories to watch; some are not watched yet")

    def stop(self) -> None:
        """Follow no changes any more.  The marks stay."""
        self._ask(None)
        self._thread.join(_PAUSE)

    def _ask(self, request: tuple[tuple[Path, ...], threading.Event] | None) -> None:
        self._requests.put(request)
        os.eventfd_write(self._wakeup, 1)

    def _serve(self) -> None:
        poller = select.poll()
        poller.register(self._wakeup, select.POLLIN)
        poller.register(self._news.fileno(), select.POLLIN)
        poller.register(self._mounts.fileno(), select.POLLPRI)
        going = True
        while going:
            try:
                ready = {fd for fd, _events in poller.poll()}
                if self._wakeup in ready:
                    going = self._answer()
                if self._news.fileno() in ready:
                    self._follow_news()
                if self._mounts.fileno() in ready:
                    self._follow_mounts()
            except Exception:
                log.exception("the directories to watch could not be followed")
                time.sleep(_PAUSE)  # an error that stays is not to keep a processor busy
        self._news.close()
        self._mounts.close()

    def _answer(self) -> bool:
        os.eventfd_read(self._wakeup)
        while not self._requests.empty():
            request = self._requests.get()
            if request is None:
                return False
            self._roots, done = request
            try:
                self._walk_roots()
            finally:
                done.set()
        return True

    def _follow_news(self) -> None:
        news = self._news.read()
        self._marked.difference_update(news.gone)
        if news.lost or any(map(self._leads_to_root, (*news.found, *news.gone))):
            self._walk_roots()
        for folder in filter(self._is_below_root, news.found):
            self._walk(folder)

    def _follow_mounts(self) -> None:
        before, self._mounted = self._mounted, self._mounts.read()
        # What a mount that went had covered is looked through as well: it may never have been.
        points = {mount.point for mount in before ^ self._mounted}
        if any(map(self._leads_to_root, points)):
            self._walk_roots()
        for point in filter(self._is_below_root, points):
            self._walk(point)

    def _is_below_root(self, folder: Path) -> bool:
        return any(folder.is_relative_to(root) for root in self._resolved)

    def _leads_to_root(self, folder: Path) -> bool:
        return any(root.is_relative_to(folder) for root in self._resolved)

    def _walk_roots(self) -> None:
        self._resolved = tuple(root.resolve() for root in self._roots)
        self._drop_others()
        for root in self._resolved:
            # From the top, each listened to before what is in it: so nothing comes unnoticed in between.
            for folder in reversed(root.parents):
                self._ancestors.add(folder)
                self._listen(folder)
            self._walk(root)

    def _drop_others(self) -> None:
        for folder in [each for each in self._marked if not self._is_below_root(each)]:
            self._marked.discard(folder)
            self._news.remove(folder)
            try:
                self._marks.unwatch(folder)
            except KernelError as error:
                log.debug("%s is watched no more: %s", folder, error)
        for folder in [each for each in self._ancestors if not self._leads_to_root(each)]:
            self._ancestors.discard(folder)
            self._news.remove(folder)

    def _walk(self, top: Path) -> None:
        folders = [top]
        while folders:
            folder = folders.pop()
            # Marked before it is listed, so that nothing that comes in between is missed.
            if self._mark(folder):
                folders += _folders_in(folder)

    def _mark(self, folder: Path) -> bool:
        try:
            self._marks.watch(folder)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                log.warning("%s is not watched: %s", folder, error)
            return False
        self._marked.add(folder)
        self._listen(folder)
        return True

    def _listen(self, folder: Path) -> None:
        try:
            self._news.add(folder)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                log.warning("directories that will appear in %s are not watched: %s", folder, error)


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if error.errno != errno.ENOENT:
            log.warning("what is below %s is not watched: %s", folder, error)
        return []
