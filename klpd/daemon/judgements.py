# SPDX-License-Identifier: GPL-2.0-or-later
"""The same bytes are judged once, however many open the file: others join, or are answered from memory.

A file's version is what its inode tells.  A change through a shared mapping is told when its first page is written to,
but not again until the kernel has written that page to the disk (file_update_time in the file systems' page_mkwrite),
and not at all on tmpfs.  So a file that was changed just now, or that was looked at long ago, is read again; where it
has the same bytes, it is not judged again.  What may be changed in the moments between costs a refusal at worst: the
guard looks at the very bytes that are loaded.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from klpd.daemon.enforcement import Judged
from klpd.errors import ModuleFormatError
from klpd.files import read_descriptor

if TYPE_CHECKING:
    from collections.abc import Callable


_REMEMBERED: Final = 1024
_SETTLED: Final = 60.0
"""Seconds after its last change when a file may be taken for unchanged as long as its inode is, for as long."""
_FRESH: Final = 1.0
"""As long, in seconds, for a file that was changed just now."""


class Judge(Protocol):
    """Judges what is about to be loaded."""

    def examine(self, data: bytes, file: str, pid: int) -> Judged | None:
        """Judge the bytes of a file that a process opens; None if they are no livepatch (nor one to the guard).

        Raises ModuleFormatError where that cannot be told, or KernelError.
        """
        ...

    def renew(self, judged: Judged, file: str, pid: int) -> bool:
        """Let a verdict be good for this process, too, if it would be the same now.  Raises KernelError."""
        ...


@dataclass(frozen=True, slots=True)
class Version:
    """Which file, and which of its contents, as far as an inode tells."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, fd: int) -> Version:
        status = os.fstat(fd)
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)

    @property
    def trusted_for(self) -> float:
        """Seconds for which a file that is read now may be taken for unchanged as long as this is its version."""
        return _SETTLED if time.time() - self.ctime_ns / 1e9 > _SETTLED else _FRESH


@dataclass(frozen=True, slots=True)
class _Known:
    """What a file's bytes are: a livepatch with its verdict, or something for which nobody has to wait (None)."""

    digest: bytes
    judged: Judged | None
    until: float  # CLOCK_MONOTONIC: the file is read again after that


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that a process opens: a descriptor for reading, and its path."""

    fd: int
    file: str
    pid: int


class Judgements:
    """Judges files; may be used from any thread.

    `harmless` is called with the file of each that is no livepatch, and its version, when that is found.
    """

    def __init__(self, judge: Judge, harmless: Callable[[Opened, Version], None]) -> None:
        self._judge = judge
        self._harmless = harmless
        self._known: OrderedDict[Version, _Known] = OrderedDict()
        self._running: dict[Version, list[Callable[[], None]]] = {}
        self._lock = threading.Lock()

    def settle(self, opened: Opened, done: Callable[[], None], again: Callable[[], None]) -> None:
        """Have a file judged for who opens it, and call `done`.

        Where that is being done for another already, call `again` at its end: this is to be asked once more then.
        Raises ModuleFormatError (once for the same bytes), KernelError, when `done` was called.
        """
        joined: list[Callable[[], None]] = []
        joins = False
        try:
            joins = self._joins(opened, again, joined)
        finally:
            if not joins:
                done()
                for each in joined:
                    each()

    def _joins(self, opened: Opened, again: Callable[[], None], joined: list[Callable[[], None]]) -> bool:
        """Whether the file is being judged for another; else it was judged, and `joined` has who came meanwhile."""
        version = Version.of(opened.fd)
        while True:
            known = self._remembered(version)
            if known is not None and known.until > time.monotonic() and self._is_good(known, opened):
                return False
            with self._lock:
                others = self._running.get(version)
                if others is not None:
                    others.append(again)
                    return True
                if self._known.get(version) is known:  # else another has judged it meanwhile
                    self._running[version] = joined
                    break
        try:
            self._look(opened, version, known)
        finally:
            with self._lock:
                del self._running[version]
        return False

    def _look(self, opened: Opened, version: Version, known: _Known | None) -> None:
        data = read_descriptor(opened.fd, opened.file)
        digest = hashlib.sha256(data).digest()
        if known is not None and known.digest == digest and self._is_good(known, opened):
            self._remember(opened, version, replace(known, until=_until(version)))
            return
        try:
            judged = self._judge.examine(data, opened.file, opened.pid)
        except ModuleFormatError:
            self._remember(opened, version, _Known(digest, None, until=_until(version)))
            raise
        self._remember(opened, version, _Known(digest, judged, until=_until(version)))
        if judged is None:
            self._harmless(opened, version)

    def _is_good(self, known: _Known, opened: Opened) -> bool:
        return known.judged is None or self._judge.renew(known.judged, opened.file, opened.pid)

    def _remembered(self, version: Version) -> _Known | None:
        with self._lock:
            return self._known.get(version)

    def _remember(self, opened: Opened, version: Version, known: _Known) -> None:
        if Version.of(opened.fd) != version:
            return  # nobody can tell which of the two was read
        with self._lock:
            self._known[version] = known
            self._known.move_to_end(version)
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)


def _until(version: Version) -> float:
    return time.monotonic() + version.trusted_for
