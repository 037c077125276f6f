# SPDX-License-Identifier: GPL-2.0-or-later
"""The ways in for a livepatch: a loader such as insmod meets more than the rules, and `klpctl apply` clears its way.

A verdict is the rules' word on the livepatch.  This is about all else that decides on what somebody gets who tries.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from klpd.judge.planner import plan_apply
from klpd.judge.rules import Mode
from klpd.judge.verdict import judge, obstructs
from klpd.model import Admission, Assessment, Decision, Finding, Load, Outcome, Remove, Rule, RuleKind, target

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.judge.planner import Plan
    from klpd.judge.rules import Policy
    from klpd.model import Livepatch, Stack, Verdict

_AT_OPEN: Final = Rule(RuleKind.BUILTIN, "a livepatch is judged when its file is opened in a watched directory")
_GATE: Final = Rule(RuleKind.BUILTIN, "what is refused depends on the gate: klpctl guard status")
_AUDIT: Final = Rule(RuleKind.BUILTIN, 'mode = "audit"')
_SUCCESS: Final = Rule(RuleKind.BUILTIN, "what is in force already takes no step")
_TIDY: Final = Rule(RuleKind.BUILTIN, "a module that is left over is removed before its name is needed")
_AUTHOR: Final = Rule(RuleKind.BUILTIN, "only root may declare what a livepatch changes")


class Gate(Enum):
    """What keeps livepatches out of the kernel.

    CLOSED: the guard, which refuses what was not approved.  FALLBACK: fanotify, which refuses what is loaded from a
    file in a watched directory.  AUDITING: nothing is refused, by the policy's mode.  OPEN: nor is it, since somebody
    opened the gate.  MISSING: nothing is there to refuse anything.
    """

    CLOSED = auto()
    FALLBACK = auto()
    AUDITING = auto()
    OPEN = auto()
    MISSING = auto()


@dataclass(frozen=True, slots=True)
class Source:
    """The file that a livepatch is read from, as a loader meets it.

    `watched`: it lies where klpd judges whatever is opened.  `packed`: it is compressed.  `distrust`: why the manifest
    that comes with it is not root's word; None: it is, or there is none.
    """

    name: str
    watched: bool
    packed: bool = False
    distrust: str | None = None


def assess(
    stack: Stack, livepatch: Livepatch, policy: Policy, source: Source, gate: Gate, applied: Livepatch | None = None
) -> Assessment:
    """The verdict on loading `livepatch` now, and what becomes of it by each way.

    `applied` is what `klpctl apply` loads: the same without parameters, where others may give it any; None: no
    different.
    """
    verdict = judge(stack, Load(livepatch), policy)
    return Assessment(
        verdict.action,
        verdict.livepatch,
        verdict.decision,
        verdict.changes,
        verdict.findings,
        insmod=by_loader(verdict, source, gate),
        apply=by_apply(plan_apply(stack, applied or livepatch, policy), policy, source),
    )


def by_loader(verdict: Verdict, source: Source, gate: Gate) -> Admission:
    """What a loader gets that opens the file now; `verdict` is that on loading the livepatch."""
    objections = (*(verdict.reasons if verdict.decision is Decision.DENY else ()), *_barriers(source))
    unseen = gate is Gate.FALLBACK and (source.packed or not source.watched)
    if gate in (Gate.CLOSED, Gate.FALLBACK) and not unseen:
        if objections:
            return Admission(Outcome.REFUSED, objections)
        if verdict.decision is Decision.UNKNOWN:
            return Admission(Outcome.UNKNOWN, verdict.reasons)
        return Admission(Outcome.ALLOWED)
    if from_kernel := tuple(each for each in objections if each.rule.kind is RuleKind.KERNEL):
        return Admission(Outcome.REFUSED, from_kernel)
    if verdict.decision is Decision.UNKNOWN:
        return Admission(Outcome.UNKNOWN, verdict.reasons)
    if not objections:
        return Admission(Outcome.ALLOWED)
    return Admission(Outcome.LET_IN, (_let_in(verdict.livepatch, gate),))


def by_apply(plan: Plan, policy: Policy, source: Source | None = None) -> Admission:
    """What `klpctl apply` gets from this plan, asked by somebody who may; `source`: the only file that it is about."""
    notes = tuple(_notes(plan, source))
    obstacle = next((each.verdict for each in plan.steps if obstructs(each.verdict, policy)), None)
    if obstacle is not None:
        outcome = Outcome.UNKNOWN if obstacle.decision is Decision.UNKNOWN else Outcome.REFUSED
        return Admission(outcome, obstacle.reasons)
    if plan.decision is not Decision.ALLOW:
        return Admission(Outcome.LET_IN, (_audited(plan.refusal), *notes))
    return Admission(Outcome.ALLOWED if plan.steps else Outcome.NOTHING, notes)


def _barriers(source: Source) -> Iterator[Finding]:
    """What keeps a loader from what every rule allows."""
    if not source.watched:
        yield Finding(
            Decision.DENY,
            "not-watched",
            _AT_OPEN,
            f"{source.name} is in no directory that klpd watches, so that nobody judges it when a loader opens it",
            "load it with klpctl apply; or let any program load it with klpctl approve; or put it into the kernel's "
            "module tree, or a directory that the policy names in directories",
        )
    if source.distrust is not None:
        yield _distrusted(source.distrust, Decision.DENY)


def _distrusted(why: str, decision: Decision) -> Finding:
    return Finding(
        decision,
        "manifest-distrusted",
        _AUTHOR,
        f"the manifest beside it is taken only where root has it applied: {why}",
        "give it to root (chown root, chmod go-w)",
    )


def _notes(plan: Plan, source: Source | None) -> Iterator[Finding]:
    if plan.already:
        yield Finding(
            Decision.ALLOW, "already-in-force", _SUCCESS, f"{', '.join(plan.already)} is in force: nothing to do"
        )
    if plan.steps and isinstance(plan.steps[0].action, Remove):
        name = target(plan.steps[0].action)
        yield Finding(Decision.ALLOW, "left-over-removed", _TIDY, f"it removes the module {name} that is left over")
    if source is not None and source.distrust is not None:
        yield _distrusted(source.distrust, Decision.ALLOW)


def _let_in(name: str, gate: Gate) -> Finding:
    match gate:
        case Gate.AUDITING:
            return Finding(
                Decision.ALLOW,
                "audit-mode",
                _AUDIT,
                f"in audit mode klpd refuses nothing: {name} is let in and recorded",
            )
        case Gate.OPEN:
            why = "the guard was opened, and refuses nothing until it is closed (klpctl guard close)"
            return Finding(Decision.ALLOW, "guard-open", _GATE, f"{why}: {name} is let in and recorded")
        case _:
            why = "there is no guard that would see it come this way"
            return Finding(Decision.ALLOW, "guard-missing", _GATE, f"{why}: {name} is let in")


def _audited(verdict: Verdict | None) -> Finding:
    name = "it" if verdict is None else verdict.livepatch
    return Finding(
        Decision.ALLOW, "audit-mode", _AUDIT, f"in audit mode klpd refuses nothing: {name} is let in and recorded"
    )


def gate_of(mode: Mode, *, opened: bool, guarded: Gate) -> Gate:
    """The gate under a policy's mode; `guarded`: what there is where anything is to be refused."""
    if guarded is Gate.MISSING:
        return guarded
    if opened:
        return Gate.OPEN
    return guarded if mode is Mode.ENFORCE else Gate.AUDITING
