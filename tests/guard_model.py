# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard's maps, and what its programs make of them (klpd/kernel/bpf/guard.bpf.c): for tests without a kernel.

tests/vm/test_guard.py sees that the real one does the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from klpd.kernel.guard_abi import (
    ANY_GENERATION,
    ANY_LIVEPATCH,
    ANY_PROCESS,
    Attribute,
    GuardApproval,
    GuardMode,
    GuardPermission,
    GuardVerdict,
    Permit,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

LET_IN = (GuardVerdict.ALLOWED, GuardVerdict.AUDITED)


@dataclass
class GuardModel:
    """`now` is the time (ns); `alive`: the klpd that gave the approvals has not ended."""

    mode: GuardMode = GuardMode.ENFORCE
    present_epoch: int = 1
    present_generation: int = 1
    alive: bool = True
    now: int = 0
    approvals: dict[tuple[bytes, int], GuardApproval] = field(default_factory=dict)
    permissions: dict[str, GuardPermission] = field(default_factory=dict)
    permitted_in: int = 0

    def epoch(self) -> int:
        return self.present_epoch

    def generation(self) -> int:
        return self.present_generation

    def next_epoch(self) -> None:
        self.present_epoch += 1

    def approve(self, digest: bytes, approval: GuardApproval, process: int = ANY_PROCESS) -> None:
        self.approvals[digest, process] = approval

    def withdraw(self, digest: bytes) -> bool:
        keys = [key for key in self.approvals if key[0] == digest]
        for key in keys:
            del self.approvals[key]
        return bool(keys)

    def permit(self, permissions: Mapping[str, GuardPermission], epoch: int) -> None:
        self.permissions, self.permitted_in = dict(permissions), epoch

    @property
    def digests(self) -> list[bytes]:
        """What somebody may load."""
        return [digest for digest, _process in self.approvals]

    def load(self, digest: bytes, process: int) -> GuardVerdict:
        """ask_approvals"""
        key = (digest, process) if (digest, process) in self.approvals else (digest, ANY_PROCESS)
        approval = self.approvals.get(key)
        if approval is None:
            return GuardVerdict.UNAPPROVED
        if not self.alive and not approval.standing:
            return GuardVerdict.ORPHANED
        if not approval.standing and approval.epoch != self.present_epoch:
            return GuardVerdict.SUPERSEDED
        if approval.generation not in (ANY_GENERATION, self.present_generation):
            return GuardVerdict.STALE
        if approval.expires_ns <= self.now:
            return GuardVerdict.EXPIRED
        del self.approvals[key]
        return GuardVerdict.AUDITED if approval.audited else GuardVerdict.ALLOWED

    def write(self, livepatch: str, attribute: Attribute) -> GuardVerdict:
        """ask_permissions"""
        permission = self.permissions.get(livepatch, self.permissions.get(ANY_LIVEPATCH))
        if permission is None:
            return GuardVerdict.STALE
        if self.permitted_in != self.present_epoch:
            return GuardVerdict.SUPERSEDED
        permit = permission.enabled if attribute is Attribute.ENABLED else permission.force
        if permit is Permit.ALWAYS:
            return GuardVerdict.ALLOWED
        if permission.generation != self.present_generation:
            return GuardVerdict.STALE
        return GuardVerdict.ALLOWED if permit is Permit.NOW else GuardVerdict.FORBIDDEN
