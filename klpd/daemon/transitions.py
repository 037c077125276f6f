# SPDX-License-Identifier: GPL-2.0-or-later
"""When transitions began, and a way to wait until one is over that does not look again and again.

The guard's programs tell of each start and end; where there is no guard, or a word of it was lost, waiting ends after a
while by itself.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from klpd.kernel.guard_abi import TransitionEvent
    from klpd.model import Stack

_NANOSECONDS: Final = 1_000_000_000


class Transitions:
    """What is known of the running transition; may be used from any thread."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._generation = 0
        self._woken = 0
        self._running: tuple[str, float] | None = None

    def note(self, event: TransitionEvent) -> None:
        """Take note of what the guard saw, and wake who waits."""
        ago = (time.monotonic_ns() - event.time_ns) / _NANOSECONDS
        with self._condition:
            self._generation = event.generation
            if event.ended:
                self._running = None
            else:
                self._running = (event.livepatch, time.time() - ago)
            self._condition.notify_all()

    def wake(self) -> None:
        """Wake who waits, since there is something else to see."""
        with self._condition:
            self._woken += 1
            self._condition.notify_all()

    def since(self, stack: Stack) -> float | None:
        """When the transition of `stack` began, in seconds since the epoch; if nobody saw it, when it was first met."""
        moving = stack.transition
        with self._condition:
            if moving is None:
                self._running = None
                return None
            if self._running is None or self._running[0] != moving.name:
                self._running = (moving.name, time.time())
            return self._running[1]

    def wait(self, generation: int, seconds: float) -> None:
        """Wait until the stack is no longer of that generation, or somebody calls `wake`, but not longer than this."""
        with self._condition:
            woken = self._woken
            self._condition.wait_for(lambda: self._generation > generation or self._woken != woken, seconds)
