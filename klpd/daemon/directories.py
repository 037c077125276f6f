# SPDX-License-Identifier: GPL-2.0-or-later
"""Which directories the hold watches: all below its roots, those that come, are moved or are mounted there later too.

Looking through directories opens them, which may take long (a network, an automounter), so it has a thread of its
own.  All directories on the way to a root are listened to as well, those of links included: a root that is not there is
watched as soon as it is, and one that becomes another (a link to the present release, say) is followed.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, Protocol

from klpd.errors import KernelError
from klpd.kernel.file_handles import Handle, handle_of, open_moved
from klpd.kernel.inotify import NewDirectories
from klpd.kernel.mounts import Mounts
from klpd.kernel.steps import find_way
from klpd.policy.beside import MANIFEST_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from klpd.kernel.steps import Way

log = logging.getLogger(__name__)

_PAUSE: Final = 1.0
_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""There is no such directory, or another thing instead of it (a link, too)."""


class Marks(Protocol):
    """What watches the files of single, open directories (klpd.kernel.fanotify).  Both methods raise KernelError."""

    def watch(self, directory: int) -> None: ...

    def unwatch(self, directory: int) -> None: ...


@dataclass(frozen=True, slots=True)
class _Marked:
    """A directory that is watched: the number of its inotify watch, and its handle, both None where not to be had.

    It keeps both when it is renamed.
    """

    watch: int | None
    handle: Handle | None


@dataclass(frozen=True, slots=True)
class _Request:
    """Directories to watch, and whom to tell when they are."""

    roots: tuple[Path, ...]
    done: Callable[[], None]


class Directories:
    """Keeps the marks where they belong.

    `declared_changed` is called, on another thread, when a manifest of a livepatch in a watched directory may have
    changed.
    """

    def __init__(self, marks: Marks, declared_changed: Callable[[], None] = lambda: None) -> None:
        self._marks = marks
        self._declared_changed = declared_changed
        self._news = NewDirectories(MANIFEST_SUFFIX)
        self._mounts = Mounts()
        self._mounted = self._mounts.read()
        self._roots: tuple[Path, ...] = ()
        self._ways: dict[Path, Way] = {}
        self._on_the_way: dict[Path, int] = {}
        self._marked: dict[Path, _Marked] = {}
        self._paths: dict[int, Path] = {}  # of the marked ones, by watch
        self._failed: dict[Path, str] = {}
        self._unwatched: tuple[str, ...] = ()
        self._waiting: list[Callable[[], None]] = []
        self._unfinished = False
        self._requests: SimpleQueue[_Request | None] = SimpleQueue()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._serve, name="directories", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many directories are watched."""
        return len(self._marked)

    @property
    def unwatched(self) -> tuple[str, ...]:
        """The roots that are not watched, each with the reason."""
        return self._unwatched

    def watch(self, roots: Iterable[Path], done: Callable[[], None] = lambda: None) -> None:
        """Watch these directories and all below them, and from now on no others.

        Returns at once.  `done` is called, on another thread, when all are watched: these, or those that were asked for
        since.
        """
        self._ask(_Request(tuple(roots), done))

    def stop(self) -> None:
        """Follow no changes any more.  The marks stay."""
        self._ask(None)
        self._thread.join(_PAUSE)

    def _ask(self, request: _Request | None) -> None:
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
                if going and self._news.fileno() in ready:
                    self._follow_news()
                if going and self._mounts.fileno() in ready:
                    self._follow_mounts()
                if going:
                    self._finish()
            except Exception:
                log.exception("the directories to watch could not be followed")
                self._unfinished = True
                time.sleep(_PAUSE)  # an error that stays is not to keep a processor busy
        self._news.close()
        self._mounts.close()

    def _answer(self) -> bool:
        os.eventfd_read(self._wakeup)
        while not self._requests.empty():
            request = self._requests.get()
            if request is None:
                return False
            self._roots = request.roots
            self._waiting.append(request.done)
            self._unfinished = True
        return True

    def _finish(self) -> None:
        """Walk all roots if that is to be done, or was left for a newer request."""
        if self._unfinished and self._requests.empty():
            self._unfinished = False
            self._walk_roots()
        if not self._unfinished:
            waiting, self._waiting = self._waiting, []
            for each in waiting:
                each()

    def _follow_news(self) -> None:
        news = self._news.read()
        self._forget(news.gone)
        left = [Path("/")] if news.lost else news.left
        adrift = [each for folder in left for each in self._cut_off(folder)]
        if news.lost or self._is_step((*news.found, *news.left, *news.steps)):
            self._walk_roots()
        for folder in filter(self._is_below_root, news.found):
            self._walk(folder)
        self._let_drift(adrift)
        if news.files or news.lost:
            self._declared_changed()

    def _follow_mounts(self) -> None:
        before, self._mounted = self._mounted, self._mounts.read()
        # What a mount that went had covered is looked through as well: it may never have been.
        points = {mount.point for mount in before ^ self._mounted}
        if self._is_step(points):
            self._walk_roots()
        for point in filter(self._is_below_root, points):
            self._walk(point)

    def _is_below_root(self, folder: Path) -> bool:
        return any(way.end is not None and folder.is_relative_to(way.end) for way in self._ways.values())

    def _is_step(self, paths: Iterable[Path]) -> bool:
        """Whether one of these is on the way to a root."""
        steps = {step for way in self._ways.values() for step in way.steps}
        return not steps.isdisjoint(paths)

    def _walk_roots(self) -> None:
        ways, on_the_way = {}, dict[Path, int]()

        def listen(folder: Path) -> None:
            with suppress(OSError), _opened(folder) as fd:
                watch = self._listen(fd, folder, self._news.add_on_the_way)
                if watch is not None:
                    on_the_way[folder] = watch

        for root in self._roots:
            # Each directory is listened to before what is in it is looked at: so nothing comes unnoticed in between.
            ways[root] = find_way(root, listen)
        self._ways, before, self._on_the_way = ways, self._on_the_way, on_the_way
        self._failed.clear()
        self._drop_others(before)
        for way in ways.values():
            if way.end is not None:
                self._walk(way.end)
        self._tell_unwatched()

    def _tell_unwatched(self) -> None:
        told = []
        for root, way in self._ways.items():
            reason = way.reason if way.end is None else self._failed.get(way.end)
            if reason is not None:
                told.append(f"{root} ({reason})")
        self._unwatched = tuple(told)

    def _drop_others(self, on_the_way: dict[Path, int]) -> None:
        for folder in [each for each in self._marked if not self._is_below_root(each)]:
            self._unmark(folder, self._marked.pop(folder))
        used = {*self._on_the_way.values(), *(each.watch for each in self._marked.values())}
        for watch in on_the_way.values():
            if watch not in used:
                self._news.remove(watch)

    def _forget(self, gone: Iterable[int]) -> None:
        """Directories that do not exist any more, and their marks with them."""
        ended = set(gone)
        if ended:
            self._marked = {path: each for path, each in self._marked.items() if each.watch not in ended}
            self._on_the_way = {path: each for path, each in self._on_the_way.items() if each not in ended}
            for watch in ended:
                self._paths.pop(watch, None)

    def _cut_off(self, folder: Path) -> list[tuple[Path, _Marked]]:
        """What was watched in a directory that was renamed, and is watched by those names no more."""
        below = [each for each in self._marked if each.is_relative_to(folder)]
        return [(each, self._marked.pop(each)) for each in below]

    def _let_drift(self, adrift: Iterable[tuple[Path, _Marked]]) -> None:
        """Watch those no more that were renamed and have not come again by another name."""
        here = {each.watch for each in self._marked.values()}
        for before, marked in adrift:
            if marked.watch is None or marked.watch not in here:
                self._unmark(before, marked)

    def _unmark(self, folder: Path, marked: _Marked) -> None:
        if marked.watch is not None and marked.watch not in self._on_the_way.values():
            self._news.remove(marked.watch)
            self._paths.pop(marked.watch, None)
        try:
            with _found(folder, marked) as fd:
                self._marks.unwatch(fd)
        except (OSError, KernelError) as error:
            log.debug("%s is watched no more: %s", folder, error)

    def _walk(self, top: Path) -> None:
        folders = [top]
        while folders:
            if not self._requests.empty():
                self._unfinished = True  # other directories are asked for, or none any more
                return
            folder = folders.pop()
            # Marked before it is listed, so that nothing that comes in between is missed.
            if self._mark(folder):
                folders += _folders_in(folder)

    def _mark(self, folder: Path) -> bool:
        try:
            # By one descriptor: whatever is renamed meanwhile, all is done to the same directory.
            with _opened(folder) as fd:
                self._marks.watch(fd)
                watch = self._listen(fd, folder, self._news.add)
                self._enter(folder, _Marked(watch, handle_of(fd)))
        except (OSError, KernelError) as error:
            self._failed[folder] = os.strerror(error.errno or 0)
            if error.errno not in _GONE:
                log.warning("%s is not watched: %s", folder, error)
            return False
        return True

    def _enter(self, folder: Path, marked: _Marked) -> None:
        if marked.watch is not None:
            # It may be there under two names, by a mount, or have been renamed without a word.
            before = self._paths.get(marked.watch, folder)
            if before != folder and before in self._marked and self._marked[before].watch == marked.watch:
                del self._marked[before]
            self._paths[marked.watch] = folder
        self._marked[folder] = marked

    def _listen(self, fd: int, folder: Path, add: Callable[[int, Path], int]) -> int | None:
        try:
            return add(fd, folder)
        except KernelError as error:
            log.warning("directories that will appear in %s are not watched: %s", folder, error)
            return None


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """A descriptor of a directory, which raises no event of fanotify's.  Raises OSError."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def _found(folder: Path, marked: _Marked) -> Iterator[int]:
    """A descriptor of a directory that was marked as `folder`, wherever it is now.  Raises OSError."""
    if marked.handle is None:
        with _opened(folder) as fd:
            yield fd
        return
    moved = open_moved(marked.handle, folder)
    if moved is None:
        raise FileNotFoundError(errno.ENOENT, "it is nowhere")
    try:
        yield moved
    finally:
        os.close(moved)


def _folders_in(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if error.errno != errno.ENOENT:
            log.warning("what is below %s is not watched: %s", folder, error)
        return []
