# SPDX-License-Identifier: GPL-2.0-or-later
"""Which file a loaded livepatch came from: one that klpd saw, or one that lies where modules are."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from klpd.errors import PolicyError
from klpd.module.search import find_livepatch
from klpd.policy.beside import with_beside

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from klpd.daemon.store import Store
    from klpd.layout import Layouts
    from klpd.model import Livepatch

log = logging.getLogger(__name__)


class KnownLivepatches:
    """Finds files by name and build id; what is found on disk is remembered, so that there is a way back to it.

    `roots` gives the directories to look in.  What was not there once is not looked for again: when its file comes and
    somebody opens it, the store has it.
    """

    def __init__(self, store: Store, roots: Callable[[], tuple[Path, ...]], layouts: Layouts) -> None:
        self._store = store
        self._layouts = layouts
        self._roots = roots
        self._missed: set[tuple[str, str]] = set()

    def __call__(self, name: str, build_id: str, /) -> Livepatch | None:
        known = self._store.known(name, build_id)
        if known is not None or (name, build_id) in self._missed:
            return known
        found = find_livepatch(name, build_id, self._roots(), self._layouts)
        if found is None:
            self._missed.add((name, build_id))
            return None
        livepatch, data, path = found
        try:
            livepatch = with_beside(livepatch, str(path))
        except PolicyError as error:
            log.warning("what is declared of %s, which is in force, is not known: %s", name, error)
        self._store.add(livepatch, data)
        return livepatch
