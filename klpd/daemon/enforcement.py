# SPDX-License-Identifier: GPL-2.0-or-later
"""From what is about to happen to a verdict that the kernel guard obeys, or what stands in for it: of the bytes of
module files when they are opened, and of writes to the attributes of the installed livepatches beforehand.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from klpd import module
from klpd.errors import KernelError, ModuleFormatError, PolicyError
from klpd.judge.declared import with_manifests
from klpd.judge.permissions import (
    never_objects,
    never_objects_to,
    never_objects_to_force,
    permits,
    write_permissions,
)
from klpd.judge.rules import Mode
from klpd.judge.verdict import judge, obstructs
from klpd.kernel.guard_abi import ANY_LIVEPATCH, NO_GENERATION, Attribute, GuardPermission, Permit
from klpd.model import Decision, Load, Stack, Verdict
from klpd.policy.beside import with_beside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from klpd.daemon.running import Kernel
    from klpd.daemon.store import Store
    from klpd.judge.permissions import WritePermissions
    from klpd.judge.rules import Policy
    from klpd.layout import Layouts
    from klpd.model import Installed, Livepatch

log = logging.getLogger(__name__)

_APPROVAL_SECONDS: Final = 60.0
"""How long an approved file may be loaded after it was opened."""
_REMEMBERED: Final = 256


class Obedient(Protocol):
    """What is to obey: the guard (klpd.kernel.guard)."""

    def approve(self, digest: bytes, *, seconds: float, generation: int | None = None) -> None: ...

    def permit(self, permissions: Mapping[str, GuardPermission]) -> None: ...


@dataclass(frozen=True, slots=True)
class Judged:
    """A file that was judged: with its verdict, or with the reason why it could not be had.

    `digest` is the SHA-256 (hex) of the module's bytes.  `obstructed`: the policy of that time does not let it in.
    """

    file: str
    digest: str
    verdict: Verdict | None
    obstructed: bool
    unreadable: str | None = None

    @property
    def allowed(self) -> bool:
        """Whether every rule allows it."""
        return self.verdict is not None and self.verdict.decision is Decision.ALLOW


class Enforcement:
    """Judges what is about to be loaded; may be used from any thread."""

    def __init__(
        self,
        kernel: Kernel,
        policy: Callable[[], Policy],
        store: Store,
        guard: Obedient | None,
        layouts: Layouts,
    ) -> None:
        self._kernel = kernel
        self._policy = policy
        self._store = store
        self._guard = guard
        self._layouts = layouts
        self._lock = threading.Lock()
        self._judged: OrderedDict[str, Judged] = OrderedDict()
        self._permitting = threading.Lock()
        self._stack = Stack()
        self._writes: Mapping[str, WritePermissions] = {}

    def examine(self, data: bytes, file: str, pid: int) -> bool:
        """Judge the file that a process opens, and let the guard know if it may be loaded.

        True if it is a livepatch, or may be taken for one by the guard.  Raises ModuleFormatError for what cannot be
        unpacked.
        """
        judged = self.judge(data, file)
        if judged is None:
            return False
        decision = "unreadable" if judged.verdict is None else judged.verdict.decision
        log.debug("%s, opened by process %d: %s", file, pid, decision)
        return True

    def judge(self, data: bytes, file: str) -> Judged | None:
        """Judge a file's bytes, and let the guard know if they may be loaded; None if they are no livepatch.

        A compressed file is judged, and approved, by what it unpacks to: the guard refuses compressed bytes, and the
        loader unpacks them itself.

        Raises ModuleFormatError for what cannot be unpacked.
        """
        data = module.unpack(data, file=file)
        if not module.is_livepatch(data):
            return None
        policy = self._policy()
        try:
            livepatch = with_beside(module.read_livepatch(data, file=file, layouts=self._layouts), file)
            stack = self._kernel.stack()
        except (ModuleFormatError, PolicyError, KernelError) as error:
            enforced = policy.mode is Mode.ENFORCE
            return self._remember(Judged(file, hashlib.sha256(data).hexdigest(), None, enforced, str(error)))
        verdict = judge(stack, Load(livepatch), policy)
        judged = self._remember(Judged(file, livepatch.digest, verdict, obstructs(verdict, policy)))
        if not judged.obstructed:
            self.remember(livepatch, data)
            if self._guard is not None:
                digest = bytes.fromhex(livepatch.digest)
                self._guard.approve(digest, seconds=_APPROVAL_SECONDS, generation=stack.generation)
        return judged

    def remember(self, livepatch: Livepatch, data: bytes) -> None:
        """Keep a livepatch that may be loaded, and tell the guard what it changes of who may write to which attributes.

        Raises KernelError.
        """
        self._store.add(livepatch, data)
        with self._permitting:
            self._permit()

    def judged(self, digest: str) -> Judged | None:
        """The last verdict on the file with this SHA-256 (hex), if it is still remembered."""
        with self._lock:
            return self._judged.get(digest)

    def permit(self, stack: Stack) -> None:
        """Tell the guard what may be written to the attributes of the livepatches of `stack`, as long as it is that.

        What can never be objected to is told as such, of livepatches that may come, too, so that nobody who writes soon
        after a change comes too early.  Raises KernelError.
        """
        with self._permitting:
            self._stack = stack
            self._writes = {each.livepatch: each for each in write_permissions(stack, self._policy())}
            self._permit()

    def _permit(self) -> None:
        if self._guard is not None:
            self._guard.permit(self._permissions())

    def _permissions(self) -> Mapping[str, GuardPermission]:
        policy = self._policy()
        remembered = (with_manifests(each, policy) for each in self._store.livepatches)
        known: list[Livepatch | Installed] = [*remembered, *self._stack.livepatches]
        declarations = [each.declared for each in known]
        # Any of those that have a name may be the next to come by it.
        concerned = {each.name for each in known if not never_objects_to(each, policy, declarations)}
        coming = GuardPermission(NO_GENERATION, enabled=Permit.ALWAYS, force=Permit.NO)
        permissions = {each.name: coming for each in known if each.name not in concerned}
        for name, judged in self._writes.items():
            permissions[name] = GuardPermission(
                self._stack.generation,
                enabled=Permit.of(now=permits(judged.enabled), always=name not in concerned),
                force=Permit.of(now=permits(judged.force)),
            )
        # Not as long as a transition runs that must not be reversed all the same.
        free = never_objects(policy, declarations) and all(permits(each.enabled) for each in self._writes.values())
        permissions[ANY_LIVEPATCH] = GuardPermission(
            NO_GENERATION,
            enabled=Permit.of(now=free, always=True),
            force=Permit.of(now=never_objects_to_force(policy), always=True),
        )
        return permissions

    def withdraw_permissions(self) -> None:
        """Have nothing permitted that depends on the stack, until `permit` is told of one.  Raises KernelError."""
        self.permit(Stack())

    def write_judged(self, livepatch: str, attribute: Attribute) -> Verdict | None:
        """The verdict on a write to the livepatch's attribute that the guard was told last."""
        with self._permitting:
            judged = self._writes.get(livepatch)
        if judged is None:
            return None
        return judged.enabled if attribute is Attribute.ENABLED else judged.force

    def _remember(self, judged: Judged) -> Judged:
        with self._lock:
            self._judged[judged.digest] = judged
            self._judged.move_to_end(judged.digest)
            while len(self._judged) > _REMEMBERED:
                self._judged.popitem(last=False)
        return judged
