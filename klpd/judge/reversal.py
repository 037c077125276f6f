# SPDX-License-Identifier: GPL-2.0-or-later
"""klpd's own rule on reversals: who takes a state back to an older version must be able to restore that.

The kernel reverses whatever transition it is asked to (klp_reverse_transition).  The callback that undoes what a
livepatch did to the system is its post_unpatch (Documentation/livepatch/system-state.rst).  Where it is declared which
states a livepatch can restore, that counts instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.judge.rules import Way
from klpd.model import ChangeKind, Decision, Finding, Rule, RuleKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from klpd.judge.rules import Policy
    from klpd.model import Installed, Livepatch, Stack, StateChange

RESTORED: Final = Rule(RuleKind.BUILTIN, "a reversal takes a state back only if post_unpatch can restore it")


def restore_findings(stack: Stack, name: str, changes: Iterable[StateChange], policy: Policy) -> Iterator[Finding]:
    """The states that reversing the transition of `name` takes back, where nothing restores their older version.

    What a rule of the site says of reversing a state counts instead.
    """
    moving = stack.transition
    if moving is None or moving.name != name or not moving.enabled:
        return
    for change in changes:
        lack = lack_of_restoring(moving, change.id)
        ruled = policy.ruling(change.id, Way.REVERSE) is not None
        if change.kind is not ChangeKind.DOWNGRADE or ruled or lack is None:
            continue
        yield Finding(
            Decision.DENY,
            "not-restored",
            RESTORED,
            f"reversing the transition of {name} takes state {policy.state_name(change.id)} back from version "
            f"{change.before} to {change.after}, and {lack} to restore that",
            f'let the transition end, or set reverse = "allow" for state {change.id:#x}, if nothing has to be restored',
            state=change.id,
            livepatch=name,
        )


def lack_of_restoring(livepatch: Livepatch | Installed, state_id: int) -> str | None:
    """Why a livepatch cannot restore an older version of a state; None if it can."""
    declared = livepatch.declared.restores(state_id)
    if declared is not None:
        return None if declared else "it is declared not to be able"
    if livepatch.restores is None:
        return "it cannot be known whether it has a post_unpatch callback"
    return None if livepatch.restores else "it has no post_unpatch callback"
