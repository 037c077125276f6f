# SPDX-License-Identifier: GPL-2.0-or-later
"""Which file a loaded livepatch came from: one that klpd saw, or one that lies where modules are."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from klpd.errors import PolicyError
from klpd.model import Declaration
from klpd.module.origin import find_origin
from klpd.module.search import find_livepatches
from klpd.policy.beside import with_beside

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from klpd.daemon.store import Store
    from klpd.layout import Layouts
    from klpd.model import Livepatch
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
        self._files: dict[tuple[str, str], tuple[Livepatch, ...]] = {}

    def __call__(self, name: str, build_id: str, /) -> Origin | None:
        return find_origin(name, build_id, self._entered(name), self._store, lambda: self._found(name, build_id))

    def _found(self, name: str, build_id: str) -> tuple[Livepatch, ...]:
        if (name, build_id) not in self._files:
            found = find_livepatches(name, build_id, self._roots(), self._layouts)
            self._files[name, build_id] = tuple(self._noted(livepatch, data, path) for livepatch, data, path in found)
        return self._files[name, build_id]

    def _noted(self, livepatch: Livepatch, data: bytes, path: Path) -> Livepatch:
        try:
            livepatch = with_beside(livepatch, str(path), self._store.declared)
        except PolicyError as error:
            log.warning("what is declared of %s, which is in force, is not known: %s", livepatch.name, error)
            return replace(livepatch, declared=livepatch.declared + Declaration(unreadable=str(error)))
        if self._store.find(livepatch.digest) is None:
            self._store.add(livepatch, data)
        return livepatch
