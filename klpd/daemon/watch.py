# SPDX-License-Identifier: GPL-2.0-or-later
"""The watch: keeps up with the installed stack, whoever changes it, and notes what was in force.

Guard events and uevents say when to look; the kernel says nothing when a transition ends where there is no guard, so
it is looked at again while one runs.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from klpd.judge.drift import find_drift
from klpd.model import Stack

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.daemon.record import Record
    from klpd.daemon.running import Kernel
    from klpd.daemon.store import Store
    from klpd.judge.rules import Policy
    from klpd.model import Drift, Installed

log = logging.getLogger(__name__)

_AGAIN: Final = 1.0


class Watch:
    """Looks at the stack when told that it may have changed.

    `is_livepatch` tells whether a loaded module of that name is one; `approved` whether a livepatch in force was
    approved since the machine booted; `later(seconds, function)` calls from the main
    loop; `looked` is told of each stack, `reconciled` of each again with all the drift that is in it, and `drifted` of
    each livepatch that is found to be drift.
    """

    def __init__(
        self,
        kernel: Kernel,
        store: Store,
        record: Record,
        policy: Callable[[], Policy],
        *,
        is_livepatch: Callable[[str], bool],
        approved: Callable[[Installed], bool],
        later: Callable[[float, Callable[[], None]], None],
        looked: Callable[[Stack], None],
        reconciled: Callable[[Stack, tuple[Drift, ...]], None],
        drifted: Callable[[Drift], None],
    ) -> None:
        self._kernel = kernel
        self._store = store
        self._record = record
        self._policy = policy
        self._is_livepatch = is_livepatch
        self._approved = approved
        self._later = later
        self._looked = looked
        self._reconciled = reconciled
        self._drifted = drifted
        self._suspects: tuple[Drift, ...] = ()
        self.drift: tuple[Drift, ...] = ()
        self._worker = ThreadPoolExecutor(1, "watch")
        self._looking = threading.Lock()
        self._lock = threading.Lock()
        self._asked = False
        self._trouble: str | None = None
        self._last = Stack()

    def look_soon(self) -> None:
        """Look at the stack on the worker; several requests before it gets to that are one."""
        with self._lock:
            if self._asked:
                return
            self._asked = True
        self._worker.submit(self._look_asked)

    def modules_changed(self, names: frozenset[str] | None) -> None:
        """Look if modules of these names are livepatches, or were; None: nobody knows which came or went.

        Ordinary modules come and go by the hundred, and are to feel nothing of klpd.
        """
        last = self._last
        known = {each.name for each in last.livepatches} | {each.name for each in last.leftovers}
        if names is None or names & known or any(self._is_livepatch(each) for each in names):
            self.look_soon()

    def look(self) -> Stack:
        """Look now, and tell what came and went.  Raises KernelError.

        Looks of several threads come one after another, so that whoever is told of them is not told of the past.
        """
        with self._looking:
            return self._look()

    def _look(self) -> Stack:
        stack = self._kernel.stack()
        self._looked(stack)
        before, self._last = self._last, stack
        for livepatch in stack.livepatches:
            if before.find(livepatch.name) is None:
                self._record.entered(livepatch)
        for livepatch in before.livepatches:
            if stack.find(livepatch.name) is None:
                self._record.left(livepatch)
        if stack.transition is None:
            self._store.observe(stack)
        self._reconcile(stack)
        return stack

    def _reconcile(self, stack: Stack) -> None:
        """Report drift that is seen twice: the word of an approval's use may come later than the livepatch itself."""
        found = find_drift(stack, self._approved, self._policy(), self._store.find)
        known = {each.livepatch for each in self.drift}
        suspected = {each.livepatch for each in self._suspects}
        self._suspects = found
        self.drift = tuple(each for each in found if each.livepatch in known | suspected)
        self._reconciled(stack, self.drift)
        for drift in self.drift:
            if drift.livepatch not in known:
                self._record.drift(drift)
                self._drifted(drift)
        if len(self.drift) < len(found):
            self._later(_AGAIN, self.look_soon)

    def stop(self) -> None:
        self._worker.shutdown(cancel_futures=True)

    def _look_asked(self) -> None:
        with self._lock:
            self._asked = False
        try:
            stack = self.look()
            moving = stack.transition is not None or not stack.steady
        except Exception as error:
            # Once, and not each second: it may last.
            if str(error) != self._trouble:
                self._trouble = str(error)
                log.exception("the stack could not be looked at; klpd tries again each second")
            moving = True
        else:
            if self._trouble is not None:
                log.warning("the stack can be looked at again")
            self._trouble = None
        if moving:
            self._later(_AGAIN, self.look_soon)
