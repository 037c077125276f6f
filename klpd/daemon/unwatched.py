# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that were refused since nobody had judged them: they lie where klpd does not watch.

The guard tells where.  Each is judged, so that the journal can say what becomes of the next try, and from then on
whoever opens it is held as in a watched directory.  Nothing is approved by that.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Protocol

from klpd import module
from klpd.errors import KlpdError
from klpd.files import read_descriptor
from klpd.kernel.file_handles import handle_of
from klpd.kernel.guard_abi import GuardVerdict, Way

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.daemon.enforcement import Judged
    from klpd.kernel.file_handles import Handle
    from klpd.kernel.guard_abi import GuardEvent, RefusedFileEvent

log = logging.getLogger(__name__)

_MOST_AT_ONCE: Final = 16
"""How many wait to be judged; of more, the journal has the refusal alone."""
_MOST_WATCHED: Final = 1024
"""How many are watched: a mark keeps the file's inode in memory."""
_MOST_PACKED: Final = 64


class Told(Protocol):
    """Is told what was found (klpd.daemon.record)."""

    def refused_file_judged(self, file: str, judged: Judged, unwatched: str) -> None:
        """A file that was refused was judged; `unwatched` is why it is not judged when it is opened, empty if it is."""
        ...

    def refused_file_not_judged(self, file: str, why: str) -> None: ...


class Unwatched:
    """Takes the guard's events on the main loop, and looks at files on a thread of its own.

    `judge` gives the verdict on the bytes of a module file, `watch` has the openers of an open file held from now on;
    both raise KlpdError.
    """

    def __init__(self, judge: Callable[[bytes, str], Judged | None], watch: Callable[[int], None], told: Told) -> None:
        self._judge = judge
        self._watch = watch
        self._told = told
        self._worker = ThreadPoolExecutor(1, "unwatched")
        self._lock = threading.Lock()
        self._waiting: set[str] = set()
        self._watched: set[Handle] = set()
        self._packed: OrderedDict[int, str] = OrderedDict()  # by process

    def watches(self, fd: int) -> bool:
        """Whether an open file is one whose openers are held."""
        return handle_of(fd) in self._watched

    def loaded(self, event: GuardEvent) -> None:
        """The guard has decided on bytes.  Those from memory may be what their loader unpacked itself."""
        file = self._packed.pop(event.pid, None)
        if file is not None and event.way is Way.BUFFER and is_unjudged(event):
            self._look_soon(file, event.digest)

    def refused(self, event: RefusedFileEvent) -> None:
        """The guard tells where a file lies that it has just refused."""
        if event.digest:
            self._look_soon(event.file, event.digest)
            return
        self._packed[event.pid] = event.file
        while len(self._packed) > _MOST_PACKED:
            self._packed.popitem(last=False)

    def stop(self) -> None:
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _look_soon(self, file: str, digest: str) -> None:
        with self._lock:
            if file in self._waiting or len(self._waiting) >= _MOST_AT_ONCE:
                return
            self._waiting.add(file)
        self._worker.submit(self._look, file, digest)

    def _look(self, file: str, digest: str) -> None:
        try:
            self._look_at(file, digest)
        except (OSError, KlpdError) as error:
            self._told.refused_file_not_judged(file, str(error))
        except Exception:
            log.exception("%s, which was refused, could not be judged", file)
        finally:
            with self._lock:
                self._waiting.discard(file)

    def _look_at(self, file: str, digest: str) -> None:
        fd = _open(file)
        try:
            data = read_descriptor(fd, file)
            if hashlib.sha256(module.unpack(data, file=file)).hexdigest() != digest:
                raise KlpdError(f"{file} does not have the bytes that were refused")
            # First this: who opens it when the journal has told of it is held.
            unwatched = self._have_watched(fd)
            judged = self._judge(data, file)
        finally:
            os.close(fd)
        if judged is not None:
            self._told.refused_file_judged(file, judged, unwatched)

    def _have_watched(self, fd: int) -> str:
        """Why it cannot be watched; empty where it is."""
        handle = handle_of(fd)
        if handle not in self._watched and len(self._watched) >= _MOST_WATCHED:
            return f"klpd watches {_MOST_WATCHED} such files already"
        try:
            self._watch(fd)
        except KlpdError as error:
            return str(error)
        if handle is not None:
            self._watched.add(handle)
        return ""


def is_unjudged(event: GuardEvent) -> bool:
    """Whether a load was refused since nobody had approved its bytes."""
    return event.verdict is GuardVerdict.UNAPPROVED and not event.allowed


def _open(file: str) -> int:
    """A regular file, open for reading; nothing else is opened.  Raises OSError and KlpdError."""
    seen = os.open(file, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(seen).st_mode):
            raise KlpdError(f"{file} is no file any more")
        return os.open(f"/proc/self/fd/{seen}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(seen)
