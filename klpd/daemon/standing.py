# SPDX-License-Identifier: GPL-2.0-or-later
"""Standing approvals: livepatches that anybody may load for a time, from wherever their bytes come.

Somebody has asked for each (klpctl approve).  That is no way past the policy: whenever the stack or what else is judged
by has changed, it is judged anew, and the guard is told what comes of that.  They end with the kernel; a klpd that
starts anew has them from /run/klpd/approvals.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from klpd.daemon.judged import veto
from klpd.daemon.state_files import AtOnce, boot_id, read_file, replace_file
from klpd.errors import GuardError, LimitError, UsageError
from klpd.model import Livepatch
from klpd.plain import to_plain
from klpd.report import StandingApproval

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.daemon.enforcement import Judged
    from klpd.daemon.state_files import Writing

log = logging.getLogger(__name__)

_FILE: Final = Path("/run/klpd/approvals")
_NS: Final = 1_000_000_000
_MOST: Final = 256
"""As many there may be: each is judged again whenever the stack changes."""


class Judge(Protocol):
    """Judges for the guard (klpd.daemon.enforcement)."""

    def approve_for_all(self, livepatch: Livepatch, file: str, until_ns: int) -> Judged | None:
        """Let anybody load a livepatch until then (CLOCK_MONOTONIC), if the policy lets it in now; the verdict.

        None where there is no guard, and so nobody who could be told.  Raises KernelError.
        """
        ...

    def take_back(self, digest: str) -> None:
        """Have the guard know no approval of these bytes.  Raises KernelError."""
        ...


@dataclass(frozen=True, slots=True)
class _Given:
    """`until_ns` is of CLOCK_MONOTONIC."""

    livepatch: str
    digest: str
    file: str
    uid: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class _Standing:
    """`refused` is why the policy does not let it in now; empty where it does."""

    given: _Given
    livepatch: Livepatch
    refused: str = ""

    def judged(self, judge: Judge) -> _Standing:
        """With what it comes to now."""
        judged = judge.approve_for_all(self.livepatch, self.given.file, self.given.until_ns)
        refused = "" if judged is None or not judged.obstructed else judged.reasons
        return replace(self, refused=refused)


@dataclass(frozen=True, slots=True)
class _Saved:
    boot_id: str
    given: tuple[_Given, ...] = ()


class StandingApprovals:
    """Those that are good now; may be used from any thread.  `find` gives the livepatch with a digest."""

    def __init__(
        self,
        judge: Judge,
        find: Callable[[str], Livepatch | None],
        path: Path = _FILE,
        files: Writing | None = None,
    ) -> None:
        self._judge = judge
        self._find = find
        self._path = path
        self._files = files or AtOnce()
        self._lock = threading.Lock()
        self._boot_id = boot_id()
        self._standing: dict[str, _Standing] = {}
        saved = read_file(path, _Saved)
        if saved is not None and saved.boot_id == self._boot_id:
            self._take_up(saved.given)

    @property
    def all(self) -> tuple[StandingApproval, ...]:
        """Those whose time is not over, the one that ends first coming first."""
        with self._lock:
            self._forget_ended()
            standing = sorted(self._standing.values(), key=lambda each: each.given.until_ns)
        return tuple(_report(each.given, each.refused) for each in standing)

    def give(self, livepatch: Livepatch, file: str, uid: int, seconds: float) -> StandingApproval:
        """Approve a livepatch for that time.  One that was given before is extended or cut to it.

        Raises VetoedError where the policy does not let it in, GuardError where nothing would come of it, LimitError
        where there are too many, and KernelError.
        """
        until_ns = time.monotonic_ns() + int(seconds * _NS)
        given = _Given(livepatch.name, livepatch.digest, file, uid, until_ns)
        with self._lock:
            self._forget_ended()
            if livepatch.digest not in self._standing and len(self._standing) >= _MOST:
                raise LimitError(f"{_MOST} livepatches are approved already; klpctl status lists them")
            judged = self._judge.approve_for_all(livepatch, file, until_ns)
            if judged is None:
                raise GuardError(
                    "there is no guard in this kernel, and so nobody who could be told of an approval; what is loaded "
                    "from watched directories is judged then"
                )
            if judged.obstructed and judged.verdict is not None:
                raise veto(judged.verdict)
            self._standing[livepatch.digest] = _Standing(given, livepatch)
            self._save()
        return _report(given)

    def take_back(self, livepatch: Livepatch) -> StandingApproval:
        """Have it be over.  Raises UsageError where these bytes have none, and KernelError."""
        with self._lock:
            self._forget_ended()
            standing = self._standing.pop(livepatch.digest, None)
            if standing is None:
                raise UsageError(f"these bytes of {livepatch.name} are not approved; klpctl status lists what is")
            self._save()
            self._judge.take_back(livepatch.digest)
        return _report(replace(standing.given, until_ns=time.monotonic_ns()))

    def judge_anew(self) -> None:
        """To be called when anything has changed that they are judged by.  Raises KernelError."""
        with self._lock:
            self._forget_ended()
            for digest, standing in self._standing.items():
                self._standing[digest] = standing.judged(self._judge)

    def _take_up(self, saved: tuple[_Given, ...]) -> None:
        for each in saved:
            livepatch = self._find(each.digest)
            if livepatch is not None:
                self._standing[each.digest] = _Standing(each, livepatch)
            elif each.until_ns > time.monotonic_ns():
                log.warning("%s is approved no longer: klpd was restarted, and does not have its file", each.livepatch)

    def _forget_ended(self) -> None:
        now = time.monotonic_ns()
        self._standing = {digest: each for digest, each in self._standing.items() if each.given.until_ns > now}

    def _save(self) -> None:
        saved = _Saved(self._boot_id, tuple(each.given for each in self._standing.values()))
        self._files.write(str(self._path), lambda: replace_file(self._path, json.dumps(to_plain(saved)).encode()))


def _report(given: _Given, refused: str = "") -> StandingApproval:
    until = time.time() + (given.until_ns - time.monotonic_ns()) / _NS
    return StandingApproval(given.livepatch, given.digest, given.file, given.uid, until, refused)
