# SPDX-License-Identifier: GPL-2.0-or-later
"""What stands in where the kernel has no guard: finit_module(2) is refused while its read of the file is held.

The kernel's first read of a module's file raises FAN_ACCESS_PERM, and by then it keeps writers out (deny_write_access
in kernel_read_file, fs/kernel_read_file.c): what klpd reads is what would be loaded.  A refused read has the load fail
with EPERM, before any code of the module runs.

It stops whoever loads a file of a watched directory by finit_module while klpd runs, and nobody else.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from klpd.daemon.enforcement import Judged
from klpd.kernel.guard_abi import GuardMode
from klpd.kernel.threads import Thread, check_access, is_loading, read_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.daemon.enforcement import Enforcement
    from klpd.daemon.record import Record

_LONGEST_LOAD: Final = 60.0
"""Seconds within which the kernel has read a file to its end: as long as a policy lets each of its reads be held."""


@dataclass(frozen=True, slots=True)
class FileLoad:
    """A livepatch that a thread is about to load from a file, under what mode, and whether that is refused."""

    thread: Thread
    judged: Judged
    mode: GuardMode

    @property
    def refused(self) -> bool:
        return self.judged.obstructed and self.mode is GuardMode.ENFORCE


class Fallback:
    """Judges loads and records what became of them; may be used from any thread.

    `mode` tells what a guard would do now.  `approved` is told the digest of what was let in by every rule.

    Raises KernelError where it cannot be seen who is loading.
    """

    def __init__(
        self,
        enforcement: Enforcement,
        record: Record,
        mode: Callable[[], GuardMode],
        approved: Callable[[str], None],
    ) -> None:
        check_access()
        self._enforcement = enforcement
        self._record = record
        self._mode = mode
        self._approved = approved
        self._begun: dict[int, tuple[str, float]] = {}  # by thread: the digest, and when (time.monotonic)
        self._lock = threading.Lock()

    def is_loading(self, tid: int) -> bool | None:
        """Whether a thread is in finit_module; None while it runs.  Raises KernelError."""
        return is_loading(tid)

    def judge(self, data: bytes, file: str, tid: int) -> FileLoad | None:
        """Judge what a thread that is held loads; None if it is no livepatch.

        Raises ModuleFormatError for what cannot be unpacked, KernelError where the thread is gone.
        """
        judged = self._enforcement.judge(data, file, tid)
        if judged is None:
            return None
        return FileLoad(read_thread(tid), judged, self._mode())

    def answered(self, load: FileLoad) -> None:
        """Record a load, once its answer was given."""
        if self._is_recorded(load):
            return
        self._record.load_answered(load.thread, load.judged, load.mode, refused=load.refused)
        if load.judged.allowed:
            self._approved(load.judged.digest)

    def _is_recorded(self, load: FileLoad) -> bool:
        """A load that is let in is held twice, since the kernel reads once more to find the file's end."""
        now, tid = time.monotonic(), load.thread.tid
        with self._lock:
            self._begun = {each: begun for each, begun in self._begun.items() if now - begun[1] < _LONGEST_LOAD}
            before = self._begun.pop(tid, None)
            if load.refused:
                return False
            if before is not None and before[0] == load.judged.digest:
                return True
            self._begun[tid] = load.judged.digest, now
            return False
