# SPDX-License-Identifier: GPL-2.0-or-later
"""Which drift klpd takes out now, where the policy wants that: what could not be done is tried again, not for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from klpd.daemon.course import CanceledError
from klpd.errors import TimedOutError
from klpd.judge.rules import Mode, OnDrift, Policy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from klpd.model import Drift, Stack
    from klpd.report import JobReport


@dataclass(slots=True)
class _Attempt:
    """`generation`: of the stack that it was made on; None where another stack would make no difference."""

    policy: Policy
    generation: int | None
    job: int | None = None


class TakeOut:
    """Keeps count of the attempts to take livepatches out that are drift; to be used on one thread.

    What failed is tried again when the policy or the stack is another; what took too long, or was canceled, only when
    the policy is, since it has changed the stack itself.
    """

    def __init__(self) -> None:
        self._attempts: dict[str, _Attempt] = {}

    def due(self, drift: Iterable[Drift], stack: Stack, policy: Policy) -> tuple[str, ...]:
        """The livepatches for each of which a job is to be made now; `begun` is to be told of them."""
        names = [each.livepatch for each in drift]
        self._attempts = {name: attempt for name, attempt in self._attempts.items() if name in names}
        if policy.on_drift is not OnDrift.DISABLE or policy.mode is not Mode.ENFORCE:
            return ()
        return tuple(name for name in names if _free(stack, name) and self._is_due(name, stack, policy))

    def begun(self, name: str, job: int, stack: Stack, policy: Policy) -> None:
        """Take note of the job that takes a livepatch out."""
        self._attempts[name] = _Attempt(policy, stack.generation, job)

    def ended(self, report: JobReport) -> None:
        """Take note of how a job has ended."""
        for attempt in self._attempts.values():
            if attempt.job == report.id:
                attempt.job = None
                if report.error in (TimedOutError.dbus_name, CanceledError.dbus_name):
                    attempt.generation = None

    def _is_due(self, name: str, stack: Stack, policy: Policy) -> bool:
        last = self._attempts.get(name)
        if last is None:
            return True
        if last.job is not None:
            return False
        return last.policy is not policy or last.generation not in (None, stack.generation)


def _free(stack: Stack, name: str) -> bool:
    """Whether the kernel can be asked to take it out: while no transition runs, or its own, which can be reversed."""
    moving = stack.transition
    return moving is None or (moving.name == name and moving.enabled)
