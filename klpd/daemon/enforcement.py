# SPDX-License-Identifier: GPL-2.0-or-later
"""From what is about to happen to a verdict that the kernel guard obeys, or what stands in for it: of the bytes of
module files when they are opened, and of writes to the attributes of the installed livepatches beforehand.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

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
from klpd.judge.surroundings import passes
from klpd.judge.verdict import judge, obstructs
from klpd.kernel.guard_abi import (
    ANY_LIVEPATCH,
    ANY_PROCESS,
    NO_GENERATION,
    Attribute,
    GuardApproval,
    GuardPermission,
    Permit,
)
from klpd.model import Circumstances, Decision, Load, Stack, Verdict
from klpd.policy.beside import manifest_path, with_beside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from klpd.daemon.running import Kernel
    from klpd.daemon.store import Store
    from klpd.judge.permissions import WritePermissions
    from klpd.judge.rules import Policy
    from klpd.layout import Layouts
    from klpd.model import Installed, Livepatch

log = logging.getLogger(__name__)

_APPROVAL_NS: Final = 10 * 1_000_000_000
"""How long after its verdict whoever opened a file may load it.  That is what it takes to unpack a large one."""
_REMEMBERED: Final = 4096
"""As many verdicts as the guard has room for approvals."""
_PAST_STACKS: Final = 64
"""Of how many generations the verdicts on writes are kept, for events of the guard that are read later."""
_TRIES: Final = 3
"""How often a file is judged anew because the stack, or something else that a verdict depends on, has changed."""


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Obedient(Protocol):
    """What is to obey: the guard (klpd.kernel.guard)."""

    def epoch(self) -> int: ...

    def generation(self) -> int: ...

    def approve(self, digest: bytes, approval: GuardApproval, process: int) -> None: ...

    def withdraw(self, digest: bytes) -> bool: ...

    def permit(self, permissions: Mapping[str, GuardPermission], epoch: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Facts:
    """What a verdict was judged from: the guard's epoch, the generation of the stack, the manifest beside the file, and
    what else of the kernel counts.

    `manifest` tells that file from another one at the same place; None where there is none.
    """

    epoch: int
    generation: int
    manifest: tuple[int, ...] | None = None
    circumstances: Circumstances | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A file that was judged: with its verdict, or with the reason why it could not be had.

    `digest` is the SHA-256 (hex) of the module's bytes.  `obstructed`: the policy of that time does not let it in.
    `facts`: what it was judged from; None where there is no guard, and so nobody who tells when that has changed.
    """

    file: str
    digest: str
    verdict: Verdict | None
    obstructed: bool
    unreadable: str | None = None
    facts: Facts | None = None

    @property
    def allowed(self) -> bool:
        """Whether every rule allows it."""
        return self.verdict is not None and self.verdict.decision is Decision.ALLOW

    @property
    def reasons(self) -> str:
        """Why it was judged so, in a line."""
        if self.verdict is None:
            return self.unreadable or "it cannot be read"
        return "; ".join(str(each) for each in self.verdict.reasons)


class Enforcement:
    """Judges what is about to be loaded; may be used from any thread.

    A verdict is good as long as the facts are that it was judged from, and the guard sees to that: they are read before
    anything that the judge is given.
    """

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
        self._order = itertools.count(1)
        # Not those of a former klpd, whose events may still be in the ring.
        self._tokens = itertools.count(time.monotonic_ns())
        self._judged: OrderedDict[str, tuple[int, Judged]] = OrderedDict()  # by digest, with the rank of the verdict
        self._given: OrderedDict[int, Judged] = OrderedDict()  # by token
        self._permitting = threading.Lock()
        self._stack = Stack()
        # By generation of the stack, in the order in which they were judged.
        self._writes: OrderedDict[int, Mapping[str, WritePermissions]] = OrderedDict()

    def examine(self, data: bytes, file: str, pid: int) -> Judged | None:
        """Judge the file that a process opens, and let the guard know if that process may load it.

        None if it is no livepatch, and cannot be taken for one by the guard.  Raises ModuleFormatError for what cannot
        be unpacked.
        """
        judged = self.judge(data, file, pid)
        if judged is not None:
            decision = "unreadable" if judged.verdict is None else judged.verdict.decision
            log.debug("%s, opened by process %d: %s", file, pid, decision)
        return judged

    def renew(self, judged: Judged, file: str, pid: int) -> bool:
        """Have a verdict hold for another process that opens the same bytes, by whatever name.

        False where anything has changed that it was judged from: the file has to be judged anew.
        """
        if self._guard is None:
            return True  # there is nobody to be told, and what is loaded is judged then (klpd.daemon.fallback)
        if judged.verdict is not None and passes(judged.verdict):
            return False
        if judged.facts is None or judged.facts != self._facts(file):
            return False
        return judged.obstructed or self._conclude(replace(judged, file=file), next(self._order), pid)

    def judge(self, data: bytes, file: str, pid: int) -> Judged | None:
        """Judge a file's bytes, and let the guard know if that process may load them; None if they are no livepatch.

        A compressed file is judged, and approved, by what it unpacks to: the guard refuses compressed bytes, and the
        loader unpacks them itself.

        Raises ModuleFormatError for what cannot be unpacked.
        """
        data = module.unpack(data, file=file)
        if not module.is_livepatch(data):
            return None
        return self._settled(lambda: self._judge(data, file), pid)

    def look(self, data: bytes, file: str) -> Judged | None:
        """The verdict on a file's bytes, by which nothing is approved; None if they are no livepatch.

        Raises ModuleFormatError for what cannot be unpacked, and KernelError.
        """
        data = module.unpack(data, file=file)
        return self._judge(data, file) if module.is_livepatch(data) else None

    def approve_for_all(self, livepatch: Livepatch, file: str, until_ns: int) -> Judged | None:
        """Let anybody load a livepatch until then (CLOCK_MONOTONIC), if the policy lets it in now; the verdict.

        What changes by which it was judged ends that; to be called again then.  None where there is no guard.  Raises
        KernelError.
        """
        if self._guard is None:
            return None
        guard = self._guard

        def judged() -> Judged:
            facts = Facts(guard.epoch(), guard.generation())
            stack = self._kernel.surrounded(self._kernel.stack(), (livepatch,))
            return self._on(stack, livepatch, file, facts)

        return self._settled(judged, ANY_PROCESS, until_ns)

    def take_back(self, digest: str) -> None:
        """Have the guard know no approval of these bytes.  Raises KernelError."""
        if self._guard is not None:
            self._guard.withdraw(bytes.fromhex(digest))

    def _settled(self, judged: Callable[[], Judged], pid: int, until_ns: int | None = None) -> Judged:
        """What it is judged as in the end: anew, some times, as long as what it is judged from changes meanwhile."""
        tries = 0
        while True:
            tries += 1
            rank = next(self._order)
            found = judged()
            if self._conclude(found, rank, pid, until_ns) or tries == _TRIES:
                return found

    def _on(self, stack: Stack, livepatch: Livepatch, file: str, facts: Facts | None) -> Judged:
        policy = self._policy()
        verdict = judge(stack, Load(livepatch), policy)
        return Judged(file, livepatch.digest, verdict, obstructs(verdict, policy), facts=facts)

    def _judge(self, data: bytes, file: str) -> Judged:
        facts = self._facts(file)
        try:
            stack = self._kernel.stack()
            livepatch = module.read_livepatch(data, file=file, layouts=self._layouts)
            livepatch = with_beside(livepatch, file, self._store.declared)
            self._store.declare(livepatch)
            stack = self._kernel.surrounded(stack, (livepatch,), None if facts is None else facts.circumstances)
        except (ModuleFormatError, PolicyError, KernelError) as error:
            enforced = self._policy().mode is Mode.ENFORCE
            return Judged(file, hashlib.sha256(data).hexdigest(), None, enforced, str(error), facts)
        judged = self._on(stack, livepatch, file, facts)
        if not judged.obstructed:
            self.remember(livepatch, data)
        return judged

    def _facts(self, file: str) -> Facts | None:
        if self._guard is None:
            return None
        epoch, generation = self._guard.epoch(), self._guard.generation()
        return Facts(epoch, generation, _manifest_beside(file), self._kernel.circumstances())

    def _conclude(self, judged: Judged, rank: int, pid: int, until_ns: int | None = None) -> bool:
        """Have the guard obey a verdict.  False where it was overtaken by another verdict on these bytes that denies
        them, or by a change of what it was judged from, and so is none.

        `rank` is from before it was judged; `until_ns` (CLOCK_MONOTONIC) until when an approval is good, None: for as
        long as it takes who has opened the file.
        """
        with self._lock:
            concluded, last = self._judged.get(judged.digest, (0, judged))
            if not judged.obstructed and last.obstructed and concluded > rank:
                return False
            self._judged[judged.digest] = next(self._order), judged
            self._judged.move_to_end(judged.digest)
            _forget_old(self._judged)
            if self._guard is None or judged.facts is None:
                return True
            digest = bytes.fromhex(judged.digest)
            if judged.obstructed:
                self._guard.withdraw(digest)
                return self._still(judged.facts, self._guard)
            if judged.verdict is None:
                return True  # nothing is refused, and nobody knows what this is
            token = next(self._tokens)
            self._given[token] = judged
            _forget_old(self._given)
        approval = GuardApproval(
            time.monotonic_ns() + _APPROVAL_NS if until_ns is None else until_ns,
            judged.facts.generation,
            judged.facts.epoch,
            token,
            audited=not judged.allowed,
        )
        self._guard.approve(digest, approval, pid)
        return self._still(judged.facts, self._guard)

    @staticmethod
    def _still(facts: Facts, guard: Obedient) -> bool:
        return (facts.epoch, facts.generation) == (guard.epoch(), guard.generation())

    def remember(self, livepatch: Livepatch, data: bytes) -> None:
        """Keep a livepatch that may be loaded, and tell the guard what it changes of who may write to which attributes.

        Raises KernelError.
        """
        if self._store.add(livepatch, data):
            with self._permitting:
                self._permit()

    def judged(self, digest: str, token: int = 0) -> Judged | None:
        """The verdict by which the file with this SHA-256 (hex) was approved, if that is still remembered; without the
        token of an approval, the last verdict on it.
        """
        with self._lock:
            if token:
                return self._given.get(token)
            return self._judged.get(digest, (0, None))[1]

    def permit(self, stack: Stack) -> None:
        """Tell the guard what may be written to the attributes of the livepatches of `stack`, as long as it is that.

        What can never be objected to is told as such, of livepatches that may come, too, so that nobody who writes soon
        after a change comes too early.  Raises KernelError.
        """
        with self._permitting:
            self._stack = stack
            self._writes[stack.generation] = {each.livepatch: each for each in write_permissions(stack, self._policy())}
            self._writes.move_to_end(stack.generation)
            while len(self._writes) > _PAST_STACKS:
                self._writes.popitem(last=False)
            self._permit()

    def _permit(self) -> None:
        if self._guard is not None:
            self._guard.permit(self._permissions(), self._stack.epoch)

    def _permissions(self) -> Mapping[str, GuardPermission]:
        policy = self._policy()
        remembered = (with_manifests(each, policy) for each in self._store.livepatches)
        known: list[Livepatch | Installed] = [*remembered, *self._stack.livepatches]
        declarations = [each.declared for each in known]
        # Any of those that have a name may be the next to come by it.
        concerned = {each.name for each in known if not never_objects_to(each, policy, declarations)}
        force_free = never_objects_to_force(policy)
        force = Permit.of(now=force_free, always=True)
        permissions = {
            each.name: GuardPermission(
                NO_GENERATION, enabled=Permit.of(now=each.name not in concerned, always=True), force=force
            )
            for each in known
        }
        generation = self._stack.generation if self._stack.steady else NO_GENERATION
        for name, judged in self._writes.get(self._stack.generation, {}).items():
            permissions[name] = GuardPermission(
                generation,
                enabled=Permit.of(now=permits(judged.enabled), always=name not in concerned),
                force=Permit.of(now=permits(judged.force), always=force_free),
            )
        permissions[ANY_LIVEPATCH] = GuardPermission(
            NO_GENERATION, enabled=Permit.of(now=never_objects(policy, declarations), always=True), force=force
        )
        return permissions

    def withdraw_permissions(self) -> None:
        """Have nothing permitted that depends on the stack, until `permit` is told of one.  Raises KernelError."""
        self.permit(Stack(epoch=0 if self._guard is None else self._guard.epoch()))

    def write_judged(self, livepatch: str, attribute: Attribute, generation: int) -> Verdict | None:
        """The verdict on a write to the livepatch's attribute that the guard was told for that generation of the stack,
        if it was told one, and that is still remembered.
        """
        with self._permitting:
            judged = self._writes.get(generation, {}).get(livepatch)
        if judged is None:
            return None
        return judged.enabled if attribute is Attribute.ENABLED else judged.force


def _manifest_beside(file: str) -> tuple[int, ...] | None:
    try:
        status = os.stat(manifest_path(file))
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _forget_old(remembered: OrderedDict[_Key, _Value]) -> None:
    while len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)
