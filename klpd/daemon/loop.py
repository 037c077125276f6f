# SPDX-License-Identifier: GPL-2.0-or-later
"""The main loop: GLib's, with calls from other threads coming in through one eventfd.

GLib.idle_add with a fresh closure leaks on PyGObject before 3.44.2, and a queue behind one watch does not.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from gi.repository import GLib

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger(__name__)

_TURN: Final = 0.05
"""Seconds of calls from other threads after which timers and descriptors have their turn."""


class Loop:
    """Runs callbacks on the thread that calls `run`; an exception in one is logged and ends only that one."""

    def __init__(self) -> None:
        self._main = GLib.MainLoop()
        self._calls: deque[Callable[[], object]] = deque()
        self._wakeup = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.watch(self._wakeup, self._run_calls)

    def call_soon(self, function: Callable[[], object]) -> None:
        """Run `function` on the loop's thread; may be called from any thread."""
        self._calls.append(function)
        os.eventfd_write(self._wakeup, 1)

    def watch(self, fd: int, readable: Callable[[], None]) -> Callable[[], None]:
        """Run `readable` whenever `fd` can be read, or is in error; call what is returned to end that."""

        def ready(_fd: int, _condition: GLib.IOCondition) -> bool:
            _guarded(readable)
            return GLib.SOURCE_CONTINUE

        conditions = GLib.IOCondition.IN | GLib.IOCondition.ERR | GLib.IOCondition.HUP
        source = GLib.unix_fd_add_full(GLib.PRIORITY_DEFAULT, fd, conditions, ready)

        def end() -> None:
            GLib.source_remove(source)

        return end

    def every(self, seconds: float, function: Callable[[], None]) -> None:
        """Run `function` every so many seconds, before whatever else is to be done then."""

        def tick() -> bool:
            _guarded(function)
            return GLib.SOURCE_CONTINUE

        GLib.timeout_add(round(seconds * 1000), tick, priority=GLib.PRIORITY_HIGH)

    def after(self, seconds: float, function: Callable[[], None]) -> Callable[[], None]:
        """Run `function` once, so many seconds from now; call what is returned, on the loop, if it need not run."""
        waiting = True

        def due() -> bool:
            nonlocal waiting
            waiting = False
            _guarded(function)
            return GLib.SOURCE_REMOVE

        source = GLib.timeout_add(round(seconds * 1000), due)

        def cancel() -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                GLib.source_remove(source)

        return cancel

    def on_signal(self, number: int, function: Callable[[], None]) -> None:
        """Run `function` when the process gets the signal."""

        def arrived() -> bool:
            _guarded(function)
            return GLib.SOURCE_CONTINUE

        GLib.unix_signal_add(GLib.PRIORITY_HIGH, number, arrived)

    def run(self) -> None:
        """Run until `quit`."""
        self._main.run()

    def quit(self) -> None:
        """End `run`."""
        self._main.quit()

    def _run_calls(self) -> None:
        os.eventfd_read(self._wakeup)
        ends = time.monotonic() + _TURN
        # What they call in turn has to wait, so that timers and descriptors are not kept waiting by many callers.
        for _each in range(len(self._calls)):
            _guarded(self._calls.popleft())
            if time.monotonic() > ends:
                break
        if self._calls:
            os.eventfd_write(self._wakeup, 1)


def _guarded(function: Callable[[], object]) -> None:
    try:
        function()
    except Exception:
        log.exception("a callback of the main loop failed")
