# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdict: every rule's word on one action, put together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.judge import declared, kernel, site, surroundings
from klpd.judge.reversal import restore_findings
from klpd.judge.rules import Mode
from klpd.model import Decision, Disable, Force, Load, Remove, Reverse, RuleKind, Verdict, changes, target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from klpd.judge.rules import Policy
    from klpd.model import Action, Finding, Stack, StateChange


def judge(stack: Stack, action: Action, policy: Policy) -> Verdict:
    """Whether `action` may be done on `stack` under `policy`, and why.

    Any rule that denies decides; else any fact that could not be had leaves the verdict unknown.
    """
    stack = declared.stack_with_manifests(stack, policy)
    action = declared.action_with_manifests(action, policy)
    changed = state_changes(stack, action)
    findings = tuple(_findings(stack, action, policy, changed))
    return Verdict(type(action).__name__.lower(), target(action), decide(findings), changed, findings)


def decide(findings: Iterable[Finding]) -> Decision:
    """What findings amount to; there is at least one."""
    decisions = {each.decision for each in findings}
    return next(each for each in (Decision.DENY, Decision.UNKNOWN, Decision.ALLOW) if each in decisions)


def obstructs(verdict: Verdict, policy: Policy) -> bool:
    """Whether the action must not go on.  In audit mode only what the kernel would refuse anyway stands in the way."""
    if policy.mode is Mode.ENFORCE:
        return verdict.decision is not Decision.ALLOW
    return any(each.decision is Decision.DENY and each.rule.kind is RuleKind.KERNEL for each in verdict.findings)


def state_changes(stack: Stack, action: Action) -> tuple[StateChange, ...]:
    """What `action` makes of the states in force.  What a running transition does anyway is not of its making."""
    return changes(stack.settled.states, stack.after(action).settled.states)


def _findings(stack: Stack, action: Action, policy: Policy, changed: tuple[StateChange, ...]) -> Iterator[Finding]:
    match action:
        case Load(livepatch):
            yield from kernel.load_findings(stack, livepatch, policy)
            yield from surroundings.load_findings(stack, livepatch)
            yield from declared.load_findings(stack, livepatch, policy)
            yield from site.livepatch_findings(livepatch, policy)
            yield from site.signature_findings(livepatch, policy)
            yield from site.version_findings(livepatch, policy)
            yield from declared.unreadable_findings(stack, changed, livepatch.name, livepatch)
            unknown = _unknown(stack)
            if livepatch.carried is None and livepatch.declared.unreadable is None:
                unknown = (*unknown, livepatch.name)
            yield from site.unknown_findings(stack, unknown, policy)
            yield from site.change_findings(stack, changed, policy, otherwise=kernel.COMPATIBLE, loaded=livepatch)
            yield from surroundings.notes(stack, livepatch)
        case Disable(name):
            yield from kernel.disable_findings(stack, name)
            yield from declared.unreadable_findings(stack, changed, name)
            yield from site.unknown_findings(stack, (each for each in _unknown(stack) if each == name), policy)
            yield from site.change_findings(stack, changed, policy, otherwise=site.NO_RULE)
            yield site.unopposed(name)
        case Reverse(name):
            yield from kernel.reverse_findings(stack, name)
            yield from restore_findings(stack, name, changed, policy)
            yield from declared.unreadable_findings(stack, changed, name)
            yield from site.unknown_findings(stack, (each for each in _unknown(stack) if each == name), policy)
            yield from site.change_findings(stack, changed, policy, otherwise=site.NO_RULE, reversal=True)
            yield site.unopposed(name)
        case Force(name):
            yield from kernel.force_findings(stack, name)
            yield from declared.unreadable_findings(stack, changed, name)
            yield from site.change_findings(stack, changed, policy, otherwise=site.NO_RULE)
            yield site.force_finding(stack, name, policy)
        case Remove(name):
            yield from kernel.remove_findings(stack, name)
            yield site.unopposed(name)


def _unknown(stack: Stack) -> tuple[str, ...]:
    """The livepatches in force whose states cannot be known, and not because what is declared could not be read."""
    unreadable = {each.name for each in stack.livepatches if each.declared.unreadable is not None and stack.readable}
    return tuple(each for each in stack.unknown if each not in unreadable)
