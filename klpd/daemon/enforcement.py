# SPDX-License-Identifier: GPL-2.0-or-later
"""From the bytes of a module file to a verdict that the kernel guard obeys."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from klpd import module
from klpd.errors import ModuleFormatError
from klpd.judge.verdict import judge, obstructs
from klpd.model import Load, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.daemon.running import Kernel
    from klpd.daemon.store import Store
    from klpd.judge.rules import Policy

log = logging.getLogger(__name__)

_APPROVAL_SECONDS: Final = 60.0
"""How long an approved file may be loaded after it was opened."""
_REMEMBERED: Final = 256


class Approvals(Protocol):
    """The guard's map of approved digests (klpd.kernel.guard)."""

    def approve(self, digest: bytes, *, seconds: float, generation: int | None = None) -> None: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """A file that was judged: with its verdict, or with the reason why it could not be read as a livepatch."""

    file: str
    verdict: Verdict | None
    unreadable: str | None = None


class Enforcement:
    """Judges what is about to be loaded; may be used from any thread."""

    def __init__(self, kernel: Kernel, policy: Callable[[], Policy], store: Store, approvals: Approvals | None) -> None:
        self._kernel = kernel
        self._policy = policy
        self._store = store
        self._approvals = approvals
        self._lock = threading.Lock()
        self._judged: OrderedDict[str, Judged] = OrderedDict()

    def examine(self, data: bytes, file: str, pid: int) -> bool:
        """Judge the file that a process opens, and let the guard know if it may be loaded.

        A compressed file is judged, and approved, by what it unpacks to: the guard refuses compressed bytes, and the
        loader unpacks them itself.  True if it is a livepatch, or may be taken for one by the guard.

        Raises ModuleFormatError for what cannot be unpacked.
        """
        data = module.unpack(data, file=file)
        if not module.is_livepatch(data):
            return False
        try:
            livepatch = module.read_livepatch(data, file=file)
        except ModuleFormatError as error:
            self._remember(hashlib.sha256(data).hexdigest(), Judged(file, None, str(error)))
            return True
        policy = self._policy()
        stack = self._kernel.stack()
        verdict = judge(stack, Load(livepatch), policy)
        self._remember(livepatch.digest, Judged(file, verdict))
        if not obstructs(verdict, policy):
            if self._approvals is not None:
                digest = bytes.fromhex(livepatch.digest)
                self._approvals.approve(digest, seconds=_APPROVAL_SECONDS, generation=stack.generation)
            self._store.add(livepatch, data)
        log.debug("%s, opened by process %d: %s", file, pid, verdict.decision)
        return True

    def judged(self, digest: str) -> Judged | None:
        """The last verdict on the file with this SHA-256 (hex), if it is still remembered."""
        with self._lock:
            return self._judged.get(digest)

    def _remember(self, digest: str, judged: Judged) -> None:
        with self._lock:
            self._judged[digest] = judged
            self._judged.move_to_end(digest)
            while len(self._judged) > _REMEMBERED:
                self._judged.popitem(last=False)
