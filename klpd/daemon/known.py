# SPDX-License-Identifier: GPL-2.0-or-later
"""Which file a loaded livepatch came from: one that klpd saw, or one that lies where modules are."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from klpd.errors import PolicyError
from klpd.module.origin import choose
from klpd.module.search import find_livepatches
from klpd.policy.beside import with_beside

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from klpd.daemon.store import Store
    from klpd.layout import Layouts
    from klpd.module.origin import Origin

log = logging.getLogger(__name__)


class KnownLivepatches:
    """Finds files by name and build id; what is found on disk is remembered, so that there is a way back to it.

    `roots` gives the directories to look in.  They are looked through once for each livepatch: when a file comes later
    and somebody opens it, the store has it.  `entered` gives the digest (hex) of the bytes that were seen to enter the
    kernel by a name; None where nobody saw that.
    """

    def __init__(
        self,
        store: Store,
        roots: Callable[[], tuple[Path, ...]],
        layouts: Layouts,
        entered: Callable[[str], str | None] = lambda _name: None,
    ) -> None:
        self._store = store
        self._layouts = layouts
        self._roots = roots
        self._entered = entered
        self._looked_for: set[tuple[str, str]] = set()

    def __call__(self, name: str, build_id: str, /) -> Origin | None:
        entered = self._entered(name)
        if entered is None or self._store.find(entered) is None:
            self._look_for(name, build_id)
        return choose(self._store.known(name, build_id), entered)

    def _look_for(self, name: str, build_id: str) -> None:
        if (name, build_id) in self._looked_for:
            return
        self._looked_for.add((name, build_id))
        for livepatch, data, path in find_livepatches(name, build_id, self._roots(), self._layouts):
            try:
                declared = with_beside(livepatch, str(path))
            except PolicyError as error:
                log.warning("what is declared of %s, which is in force, is not known: %s", name, error)
                declared = livepatch
            self._store.add(declared, data)
