# SPDX-License-Identifier: GPL-2.0-or-later
"""The site's rules: which livepatches may come, which states may change how, and what an unknown state means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.judge import declared
from klpd.judge.rules import Permission, Way
from klpd.model import ChangeKind, Decision, Finding, Rule, RuleKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from klpd.judge.rules import Policy, Ruling
    from klpd.model import Installed, Livepatch, Stack, StateChange

NO_RULE: Final = Rule(RuleKind.BUILTIN, "no rule objects")

_VERB: Final = {
    ChangeKind.INTRODUCE: "introduce",
    ChangeKind.UPGRADE: "upgrade",
    ChangeKind.DOWNGRADE: "downgrade",
    ChangeKind.DROP: "take out",
}


def livepatch_findings(livepatch: Livepatch | Installed, policy: Policy) -> Iterator[Finding]:
    """Whether the policy lets this livepatch in at all: its first rule that matches, else its default."""
    for rule in policy.livepatches:
        if rule.permission is not None and policy.matches(rule, livepatch):
            because = f": {rule.reason}" if rule.reason else ""
            yield Finding(
                rule.permission.decision,
                "livepatch-rule",
                rule.rule,
                f"{livepatch.name} is {_participle(rule.permission)} by a rule{because}",
                None if rule.permission is Permission.ALLOW else "change the rule, if the livepatch is wanted",
                livepatch=livepatch.name,
            )
            return
    yield Finding(
        policy.default.permission.decision,
        "default",
        policy.default.rule,
        f"no rule names {livepatch.name}, and such livepatches are {_participle(policy.default.permission)}"
        f"{_no_signer(livepatch, policy)}",
        None
        if policy.default.permission is Permission.ALLOW
        else f'add a rule for it: [[livepatch]] match = {{ name = "{livepatch.name}" }} verdict = "allow"',
        livepatch=livepatch.name,
    )


def _no_signer(livepatch: Livepatch | Installed, policy: Policy) -> str:
    """Why rules on signers do not match, where there are any."""
    trust = policy.trust(livepatch)
    if trust.trusted or all(each.match.signer is None for each in policy.livepatches):
        return ""
    return f"; rules on signers do not name it, since {trust.detail}"


def signature_findings(livepatch: Livepatch | Installed, policy: Policy) -> Iterator[Finding]:
    """Whether a livepatch has to be signed by somebody whom the policy trusts, and is."""
    if policy.untrusted.permission is Permission.ALLOW:
        return
    trust = policy.trust(livepatch)
    yield Finding(
        Decision.ALLOW if trust.trusted else Decision.DENY,
        "signature",
        policy.untrusted.rule,
        f"{livepatch.name} is signed by {trust.signer}, as {trust.detail} proves"
        if trust.trusted
        else f"livepatches have to be signed by somebody whom this site trusts, and {livepatch.name} is not: "
        f"{trust.detail}",
        None
        if trust.trusted
        else "sign it with the key of one of the trusted-certificates; or add its signer's certificate to them",
        livepatch=livepatch.name,
    )


def version_findings(livepatch: Livepatch | Installed, policy: Policy) -> Iterator[Finding]:
    """The versions of states that the policy does not accept."""
    for state in livepatch.carried or ():
        rule = policy.states.get(state.id)
        if rule is None or rule.versions is None or state.version in rule.versions:
            continue
        yield Finding(
            Decision.DENY,
            "state-version",
            rule.versions_rule or rule.rule,
            f"{livepatch.name} carries state {policy.state_name(state.id)} version {state.version}; "
            f"this site accepts {rule.versions}",
            "load a livepatch with a version in that range, or change the range",
            state=state.id,
            livepatch=livepatch.name,
        )


def change_findings(
    stack: Stack,
    changes: Iterable[StateChange],
    policy: Policy,
    *,
    otherwise: Rule,
    loaded: Livepatch | None = None,
    reversal: bool = False,
) -> Iterator[Finding]:
    """The policy's word on each state change on `stack`, or else its authors'.

    `otherwise` is what allows one that no rule speaks of, unless the state is but declared; `loaded` is what is loaded.
    """
    newest_first = (*(() if loaded is None else (loaded,)), *reversed(stack.livepatches))
    for change in changes:
        way = Way.of(change.kind, reversal=reversal)
        ruling = None if way is None else policy.ruling(change.id, way)
        sticky = None if way is None else declared.sticky(stack, change.id, way)
        if ruling is not None:
            yield _ruled(change, ruling, policy, reversal=reversal)
        elif sticky is not None:
            yield _stuck(change, sticky, policy, reversal=reversal)
        else:
            rule = declared.declared_in(newest_first, change.id)
            message = "no rule of this site objects" if rule is None else "declared; no rule of this site objects"
            yield Finding(Decision.ALLOW, "state-change", rule or otherwise, message, state=change.id)


def _stuck(change: StateChange, sticky: declared.Sticky, policy: Policy, *, reversal: bool) -> Finding:
    by_reversal = " by reversing the transition" if reversal else ""
    return Finding(
        Decision.DENY,
        "declared-sticky",
        sticky.statement.rule,
        f"the action would {_VERB[change.kind]} state {policy.state_name(change.id)} {_versions(change)}{by_reversal}, "
        f"which {sticky.livepatch} is declared to make sticky",
        f"keep a livepatch that carries it; or set sticky = false for state {change.id:#x} in a [[state]] table of the "
        "policy, if this has to be",
        state=change.id,
        livepatch=sticky.livepatch,
    )


def _ruled(change: StateChange, ruling: Ruling, policy: Policy, *, reversal: bool) -> Finding:
    by_reversal = " by reversing the transition" if reversal else ""
    named = policy.state_name(change.id)
    allowed = ruling.permission is Permission.ALLOW
    return Finding(
        ruling.permission.decision,
        "state-change",
        ruling.rule,
        f"the policy {'lets' if allowed else 'does not let'} an action {_VERB[change.kind]} state {named} "
        f"{_versions(change)}{by_reversal}",
        None if allowed else "change the rule, if this has to be",
        state=change.id,
    )


def _versions(change: StateChange) -> str:
    if change.before is None:
        return f"version {change.after}"
    if change.after is None:
        return f"version {change.before}"
    return f"from version {change.before} to {change.after}"


def unknown_findings(stack: Stack, names: Iterable[str], policy: Policy) -> Iterator[Finding]:
    """What it means that the states of the livepatches `names` cannot be known."""
    for name in names:
        if stack.find(name) is not None and not stack.readable:
            yield Finding(
                Decision.UNKNOWN,
                "states-unreadable",
                policy.unknown_states.rule,
                f"the states of {name} are in kernel memory, which could not be read",
                "ask as root, or with klpd running",
                livepatch=name,
            )
            continue
        permission = policy.unknown_states.permission
        yield Finding(
            permission.decision,
            "unknown-states",
            policy.unknown_states.rule,
            f"the states of {name} cannot be known, and such livepatches are {_participle(permission)}",
            None
            if permission is Permission.ALLOW
            else 'declare them in a manifest (klpctl manifest new), or set unknown-states = "allow" in [policy], if '
            "that is meant",
            livepatch=name,
        )


def force_finding(stack: Stack, name: str, policy: Policy) -> Finding:
    """Whether the policy lets the transition of a livepatch be forced."""
    livepatch = stack.find(name)
    force = (policy.transition if livepatch is None else policy.transition_of(livepatch)).force
    permission = force.permission
    return Finding(
        permission.decision,
        "force",
        force.rule,
        f"forcing the transition of {name} leaves tasks in functions that are no longer in force, and such acts are "
        f"{_participle(permission)}",
        None
        if permission is Permission.ALLOW
        else 'reverse the transition (klpctl revert), or set force = "allow" in [transition] or a [[livepatch]] rule '
        "for it, if that is meant",
        livepatch=name,
    )


def gap_finding(going: str, coming: str, policy: Policy) -> Finding:
    """Whether the policy lets `going` be disabled before `coming`, which is to take its place, is loaded."""
    permission = policy.unpatched_gap.permission
    return Finding(
        permission.decision,
        "unpatched-gap",
        policy.unpatched_gap.rule,
        f"{going} has to go before {coming} can come, so that the kernel runs without the fixes of either in between, "
        f"and such gaps are {_participle(permission)}",
        None
        if permission is Permission.ALLOW
        else 'set allow-unpatched-gap = "allow" in [policy], if the kernel may run without them for that time; or '
        f"apply a livepatch that can replace {going}",
        livepatch=going,
    )


def unopposed(name: str) -> Finding:
    """What allows an action that no rule has to allow: disabling and removing are free unless a rule denies them."""
    return Finding(Decision.ALLOW, "no-rule", NO_RULE, "no rule of this site objects", livepatch=name)


def _participle(permission: Permission) -> str:
    return "allowed" if permission is Permission.ALLOW else "denied"
