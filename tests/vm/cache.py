# SPDX-License-Identifier: GPL-2.0-or-later
"""A folder of things that take long to make, each under a key of all that went into it.

Any number of processes may share it.  An entry is built in a scratch folder and renamed into place when it is
complete; while one process builds it the others wait.  What was not used for longest is dropped.  The folder may be
deleted at any time when nothing runs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def default_folder() -> Path:
    """$KLPD_CACHE, else klpd in the user's cache folder (XDG base directory specification)."""
    if own := os.environ.get("KLPD_CACHE"):
        return Path(own).resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).resolve() / "klpd"


def source(file: str) -> str:
    """The text of a module, given its ``__file__``: a part of the key of what the module builds."""
    return Path(file).read_text()


def digest(*parts: object) -> str:
    """A key made of plain values (str, int, bool, None, and lists, tuples and dicts of them)."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


class Cache:
    """The cache in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("entries", "locks", "scratch", "notes"):
            (folder / name).mkdir(parents=True, exist_ok=True)

    def find(self, kind: str, key: str) -> Path | None:
        """The entry's folder, marked as used now, or None."""
        entry = self._entry(kind, key)
        try:
            os.utime(entry)
        except FileNotFoundError:
            return None
        return entry

    def get(self, kind: str, key: str, build: Callable[[Path], None], *, keep: int) -> Path:
        """The folder of entry ``key``; ``build`` fills an empty folder where there is none yet.

        ``keep`` is how many entries of this kind stay; others are dropped when a new one comes, unless in use.
        """
        if found := self.find(kind, key):
            return found
        with self.locked(f"{kind}-{key}"):
            if found := self.find(kind, key):
                return found
            with self.scratch() as scratch:
                made = scratch / "entry"
                made.mkdir()
                build(made)
                made.rename(self._entry(kind, key))
        self._drop_oldest(kind, keep)
        return self._entry(kind, key)

    def note(self, name: str, stamp: str, compute: Callable[[], str]) -> str:
        """What ``compute`` said when ``stamp`` was last new."""
        path = self.folder / "notes" / f"{name}.json"
        try:
            known = json.loads(path.read_text())
        except FileNotFoundError:
            known = None
        if known is not None and known["stamp"] == stamp:
            return str(known["value"])
        value = compute()
        self.put_note(name, stamp, value)
        return value

    def put_note(self, name: str, stamp: str, value: str) -> None:
        """Make ``note`` give ``value`` as long as ``stamp`` stays."""
        with self.scratch() as scratch:
            new = scratch / "note"
            new.write_text(json.dumps({"stamp": stamp, "value": value}))
            new.rename(self.folder / "notes" / f"{name}.json")

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """An empty folder, deleted in the end; those of processes that were killed are deleted here, too."""
        with self.locked("scratch"):
            for folder in (self.folder / "scratch").iterdir():
                with suppress(FileNotFoundError), _opened(folder) as handle:  # its owner may be deleting it
                    if _try_lock(handle):
                        shutil.rmtree(folder)
            folder = Path(tempfile.mkdtemp(dir=self.folder / "scratch"))
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)
            os.close(handle)

    @contextmanager
    def using(self, entry: Path) -> Iterator[None]:
        """Keep ``entry`` from being dropped meanwhile."""
        with _opened(entry) as handle:
            fcntl.flock(handle, fcntl.LOCK_SH)
            yield

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Be the only process that does ``name``."""
        handle = os.open(self.folder / "locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def _entry(self, kind: str, key: str) -> Path:
        return self.folder / "entries" / f"{kind}-{key}"

    def _drop_oldest(self, kind: str, keep: int) -> None:
        with self.locked("drop"):
            entries = sorted(
                (self.folder / "entries").glob(f"{kind}-*"),
                key=lambda entry: entry.stat().st_mtime_ns,
                reverse=True,
            )
            for entry in entries[keep:]:
                with _opened(entry) as handle:
                    if _try_lock(handle):
                        shutil.rmtree(entry)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield handle
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
