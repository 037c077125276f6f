# SPDX-License-Identifier: GPL-2.0-or-later
"""What anybody may write to the attributes of the installed livepatches, worked out before they try.

Who opens an attribute for writing has not said yet what he will write.  That is no loss: the kernel takes only one
value, the other one that `enabled` may have (EINVAL for the one that it has), and 1 for `force`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from klpd.judge.declared import binds
from klpd.judge.reversal import lack_of_restoring
from klpd.judge.rules import STICKY_WAYS, Permission, Way
from klpd.judge.verdict import judge
from klpd.model import Decision, Disable, Force, Reverse, RuleKind, Verdict

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from klpd.judge.rules import Policy
    from klpd.model import Action, Declaration, Installed, Livepatch, Stack


@dataclass(frozen=True, slots=True)
class WritePermissions:
    """The verdicts on what a write to `enabled` and one to `force` of a livepatch would do."""

    livepatch: str
    enabled: Verdict
    force: Verdict


def write_permissions(stack: Stack, policy: Policy) -> tuple[WritePermissions, ...]:
    """What may be written to the attributes of each livepatch as long as the stack stays as it is."""
    return tuple(
        WritePermissions(
            each.name,
            judge(stack, enabled_action(each), policy),
            judge(stack, Force(each.name), policy),
        )
        for each in stack.livepatches
    )


def enabled_action(livepatch: Installed) -> Action:
    """What a write to `enabled` does: the kernel takes the other value only (enabled_store)."""
    return Reverse(livepatch.name) if livepatch.transition else Disable(livepatch.name)


def permits(verdict: Verdict) -> bool:
    """Whether nobody but the kernel objects, which can do so itself, and with a better error."""
    return all(each.decision is Decision.ALLOW or each.rule.kind is RuleKind.KERNEL for each in verdict.findings)


def never_objects_to_force(policy: Policy) -> bool:
    """Whether the policy lets the transition of every livepatch be forced."""
    own = (each.force for each in policy.livepatches if each.force is not None)
    return all(each.permission is Permission.ALLOW for each in (policy.transition.force, *own))


def never_objects(policy: Policy, declarations: Iterable[Declaration] = ()) -> bool:
    """Whether the policy lets every livepatch be disabled and every transition be reversed, whatever the stack, and
    nothing that is declared of livepatches that may come (in its manifests, or in `declarations`) says otherwise.

    klpd's own rule may still object to reversing a transition (klpd.judge.reversal).
    """
    rulings = [ruling for rule in policy.states.values() for ruling in rule.rulings.values()]
    return all(each.permission is Permission.ALLOW for each in (policy.unknown_states, *rulings)) and not any(
        binds(each, policy) for each in _with_manifests(declarations, policy)
    )


def never_objects_to(
    livepatch: Livepatch | Installed, policy: Policy, declarations: Iterable[Declaration] = ()
) -> bool:
    """Whether the policy lets this livepatch be disabled and its transitions be reversed, whatever the stack, and
    nothing that is declared of any that may be in it (in the policy's manifests, or in `declarations`) says otherwise.

    Either takes out or lowers none but the states that it carries; unless it replaces others, and its transition, which
    was reversed before those had gone, is turned round once more.
    """
    if livepatch.carried is None:
        return False
    declared = (*_with_manifests(declarations, policy), livepatch.declared)
    if any(each.unreadable is not None for each in declared):
        return False
    stuck = {each.id for declaration in declared for each in declaration.states or () if each.sticky}
    carried = {each.id for each in livepatch.carried}
    if livepatch.replace is not False and any(
        _stays(each, stuck, policy) for each in ({*policy.states, *stuck} - carried)
    ):
        return False
    return not any(_may_object(livepatch, each, stuck, policy) for each in carried)


def _stays(state_id: int, stuck: Container[int], policy: Policy) -> bool:
    """Whether anything may speak against a reversal that takes out a state."""
    ruling = policy.ruling(state_id, Way.REVERSE)
    return state_id in stuck if ruling is None else ruling.permission is Permission.DENY


def _may_object(livepatch: Livepatch | Installed, state_id: int, stuck: Container[int], policy: Policy) -> bool:
    """Whether anything may speak against the loss of a state of `livepatch`, or against its older version's return."""
    rulings = [policy.ruling(state_id, way) for way in STICKY_WAYS]
    return (
        any(each.permission is Permission.DENY for each in rulings if each is not None)
        or (state_id in stuck and None in rulings)
        or (policy.ruling(state_id, Way.REVERSE) is None and lack_of_restoring(livepatch, state_id) is not None)
    )


def _with_manifests(declarations: Iterable[Declaration], policy: Policy) -> tuple[Declaration, ...]:
    return *(each.declaration for each in policy.manifests), *declarations
