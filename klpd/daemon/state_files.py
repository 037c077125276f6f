# SPDX-License-Identifier: GPL-2.0-or-later
"""How the files are written in which klpd keeps what it has to know after a restart: by one thread, and by no other.

Whoever has something to write waits for no disk.  What cannot be written (the disk is full, or read-only) stays in
memory, where klpd reads it anyway, and is tried again.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from klpd.plain import PlainError, from_plain

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_Kind = TypeVar("_Kind")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
"""Seconds between tries to write what could not be: the first pause, and the longest that it becomes."""


def boot_id() -> str:
    """The kernel's name for the time since it booted (random(4))."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old or the new one.  Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.is_dir():
            set_aside(path, "it is a directory")
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # where the disk is full, a half of it only makes that worse
        raise


def read_file(path: Path, kind: type[_Kind]) -> _Kind | None:
    """What was written there as JSON (klpd.plain); None where there is nothing, or what cannot be read: that is set
    aside then.
    """
    try:
        return from_plain(kind, json.loads(path.read_bytes()))
    except FileNotFoundError:
        if path.is_symlink():
            set_aside(path, "it leads nowhere")
    except (OSError, PlainError, ValueError, RecursionError) as error:
        set_aside(path, error)
    return None


def set_aside(path: Path, why: object) -> None:
    """Keep what cannot be read under another name, so that it is in nobody's way."""
    aside = path.with_name(f"{path.name}.unreadable-{time.time_ns():x}")
    try:
        path.rename(aside)
    except OSError as error:
        log.error("%s cannot be read (%s), nor set aside (%s); klpd goes on without it", path, why, error.strerror)
    else:
        log.error("%s cannot be read (%s); klpd goes on without it, and it is kept as %s", path, why, aside)


class Writing(Protocol):
    """Writes files, sooner or later."""

    def write(self, key: str, action: Callable[[], None]) -> None:
        """Have `action`, which raises OSError, write what `key` names; in place of an action that waits for that."""
        ...

    def settle(self, seconds: float) -> bool:
        """Wait until nothing is left to write, so many seconds at most; whether that is so."""
        ...


class AtOnce:
    """Writes on the thread of whoever asks."""

    def write(self, key: str, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            log.error("%s is not written: %s", key, error)

    def settle(self, _seconds: float) -> bool:
        return True


class StateFiles:
    """Writes on a thread of its own, in the order in which it was asked.

    `changed` is called, on that thread, when something cannot be written for the first time, and when all is.
    """

    def __init__(self, changed: Callable[[], object] = lambda: None) -> None:
        self._changed = changed
        self._waiting: dict[str, Callable[[], None]] = {}
        self._trouble = ""
        self._stopping = False
        self._writing = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="state", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """Why something is not written; empty where all is."""
        return self._trouble

    def write(self, key: str, action: Callable[[], None]) -> None:
        with self._news:
            self._waiting[key] = action
            self._news.notify_all()

    def settle(self, seconds: float) -> bool:
        """As with Writing; no longer than something cannot be written."""
        with self._news:
            self._news.wait_for(lambda: bool(self._trouble) or not (self._waiting or self._writing), seconds)
            return not (self._waiting or self._writing)

    def stop(self, seconds: float) -> None:
        """Write what is left, if that can be done within so many seconds."""
        self.settle(seconds)
        with self._news:
            self._stopping = True
            self._news.notify_all()

    def _work(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
                batch, self._waiting = self._waiting, {}
                self._writing = True
            failed, why = self._write_all(batch)
            with self._news:
                self._waiting = {**failed, **self._waiting}
                self._writing = False
                begins, ends = why and not self._trouble, self._trouble and not why
                self._trouble = why
                self._news.notify_all()
            if begins or ends:
                self._changed()
            pause = min(2 * pause, _LONGEST_PAUSE) if why else _FIRST_PAUSE
            if why:
                self._rest(pause)

    def _write_all(self, batch: dict[str, Callable[[], None]]) -> tuple[dict[str, Callable[[], None]], str]:
        failed, why = dict[str, "Callable[[], None]"](), ""
        for key, action in batch.items():
            try:
                action()
            except OSError as error:
                failed[key] = action
                why = f"{key}: {error.strerror}"
            except Exception:
                log.exception("%s cannot be written", key)
        return failed, why

    def _rest(self, seconds: float) -> None:
        with self._news:
            self._news.wait_for(lambda: self._stopping, seconds)
