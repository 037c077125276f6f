# SPDX-License-Identifier: GPL-2.0-or-later
"""What is declared of livepatches: klpd treats declared states as real ones, since the kernel knows nothing of them.

Real states win.  What is declared comes with a livepatch (its modinfo, a manifest beside its file) or from the site's
manifests, which are part of the policy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from klpd.judge.findings import deny
from klpd.judge.kernel import first_state
from klpd.judge.rules import STICKY_WAYS
from klpd.model import ChangeKind, Decision, DeclaredState, Finding, Installed, Livepatch, Load, Rule, RuleKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from klpd.judge.rules import Manifest, Policy, Way
    from klpd.model import Action, Declaration, Stack, State, StateChange

COMPATIBLE: Final = Rule(RuleKind.BUILTIN, "declared states are kept as the kernel keeps real ones")

READABLE: Final = Rule(RuleKind.BUILTIN, "what is declared has to be known")

Described = TypeVar("Described", Livepatch, Installed)


def with_manifests(livepatch: Described, policy: Policy) -> Described:
    """`livepatch` with what the site's manifests declare of it."""
    declared = sum((each.declaration for each in policy.manifests if each.is_for(livepatch)), livepatch.declared)
    return livepatch if declared == livepatch.declared else replace(livepatch, declared=declared)


def stack_with_manifests(stack: Stack, policy: Policy) -> Stack:
    """`stack` with what the site's manifests declare of its livepatches."""
    if not policy.manifests:
        return stack
    return replace(stack, livepatches=tuple(with_manifests(each, policy) for each in stack.livepatches))


def action_with_manifests(action: Action, policy: Policy) -> Action:
    """`action` with what the site's manifests declare of the livepatch that it loads."""
    return Load(with_manifests(action.livepatch, policy)) if isinstance(action, Load) else action


def binds(declaration: Declaration, policy: Policy) -> bool:
    """Whether a state is declared sticky, or may be, and the policy does not say otherwise."""
    return declaration.unreadable is not None or any(
        each.sticky and any(policy.ruling(each.id, way) is None for way in STICKY_WAYS)
        for each in declaration.states or ()
    )


def load_findings(stack: Stack, livepatch: Livepatch, policy: Policy) -> Iterator[Finding]:
    """What speaks against loading `livepatch` because of states that are declared."""
    yield from contradictions(livepatch)
    for installed in stack.livepatches:
        yield from _incompatible(installed, livepatch, policy)


def unreadable_findings(
    stack: Stack, changed: Iterable[StateChange], name: str, loaded: Livepatch | None = None
) -> Iterator[Finding]:
    """The livepatches of which more may be declared than could be read, wherever that may matter to an action on the
    livepatch `name`: the one that is `loaded`, and those in force unless nothing can become of their states.
    """
    touches = any(each.kind is not ChangeKind.KEEP for each in changed)
    if loaded is not None:
        touches |= loaded.replace is not False or loaded.carried != ()
    concerned: list[Livepatch | Installed] = [] if loaded is None else [loaded]
    concerned += (each for each in stack.livepatches if touches or each.name == name)
    for each in concerned:
        if each.declared.unreadable is not None:
            yield Finding(
                Decision.UNKNOWN,
                "declarations-unreadable",
                READABLE,
                f"what is declared of {each.name} cannot be known: {each.declared.unreadable}",
                "ask as root, or with klpd running; what is wrong with a manifest has to be put right",
                livepatch=each.name,
            )


def contradictions(livepatch: Livepatch) -> Iterator[Finding]:
    """What is declared otherwise than it is, or than somebody else declares it."""
    yield from _contradictions(livepatch.name, livepatch.declared, livepatch.states or ())


def contradicting(manifests: Sequence[Manifest]) -> Iterator[Finding]:
    """What manifests declare otherwise than others do for the same livepatch."""
    for index, each in enumerate(manifests):
        for other in manifests[:index]:
            if each.meets(other):
                told = f"sha256 {each.sha256}" if each.build_id is None else f"build id {each.build_id}"
                both = other.declaration + each.declaration
                yield from _contradictions(f"the livepatch with {told}", both, ())


def _contradictions(named: str, declared: Declaration, real_states: tuple[State, ...]) -> Iterator[Finding]:
    yield from _contradicted_absence(named, declared, real_states)
    for statement in declared.states or ():
        real = first_state(real_states, statement.id)
        other = declared.of(statement.id)[0]
        if statement.version == (other.version if real is None else real.version):
            continue
        contrary = f"{other.rule} version {other.version}" if real is None else f"it carries version {real.version}"
        yield deny(
            "declaration-contradicted",
            statement.rule,
            f"state {statement.id:#x} of {named} is declared in version {statement.version}, but {contrary}",
            "correct what is declared: klpctl inspect shows what the file carries",
            state=statement.id,
        )


def _contradicted_absence(named: str, declared: Declaration, real_states: tuple[State, ...]) -> Iterator[Finding]:
    """That there are no states, where there are."""
    for rule in declared.stateless:
        if real_states:
            real = real_states[0]
            contrary = f"it carries state {real.id:#x} version {real.version}"
        elif declared.states:
            other = declared.states[0]
            contrary = f"{other.rule} declares state {other.id:#x} version {other.version}"
        else:
            return
        yield deny(
            "declaration-contradicted",
            rule,
            f"{named} is declared to change no state, but {contrary}",
            "correct what is declared: klpctl inspect shows what the file carries",
        )


def _incompatible(installed: Installed, livepatch: Livepatch, policy: Policy) -> Iterator[Finding]:
    """klp_is_patch_compatible once more, wherever a declared state has a part in it."""
    if livepatch.carried is None:
        return
    for state in installed.carried or ():
        real = first_state(installed.states or (), state.id) is not None and livepatch.states is not None
        carried = first_state(livepatch.carried, state.id)
        if real and first_state(livepatch.states or (), state.id) is not None:
            continue  # the kernel compares the same two
        if carried is None:
            if livepatch.replace is not False and not real and livepatch.declared.unreadable is None:
                yield _missing(installed, livepatch, state, policy)
        elif carried.version < state.version:
            yield deny(
                "state-downgrade",
                COMPATIBLE,
                f"{livepatch.name} carries state {policy.state_name(state.id)} version {carried.version}"
                f"{_place(livepatch, state.id)}; {installed.name} has installed version {state.version}"
                f"{_place(installed, state.id)}",
                f"load one with version {state.version} or later; to go back, unpatch first: klpctl revert",
                state=state.id,
            )


def _missing(installed: Installed, livepatch: Livepatch, state: State, policy: Policy) -> Finding:
    named = policy.state_name(state.id)
    return deny(
        "state-missing",
        COMPATIBLE,
        f"{livepatch.name} replaces {installed.name} but does not carry its state {named} version {state.version}"
        f"{_place(installed, state.id)}",
        f"load a cumulative livepatch that carries state {named}, or declare it if this one does; or disable "
        f"{installed.name} first",
        state=state.id,
    )


def _place(livepatch: Livepatch | Installed, state_id: int) -> str:
    """Where a state is declared, for a message; nothing for a real one."""
    rule = declaring_rule(livepatch, state_id)
    return "" if rule is None else f" (declared in {rule})"


def declaring_rule(livepatch: Livepatch | Installed, state_id: int) -> Rule | None:
    """Where it is declared that a livepatch carries a state; None for a real one."""
    if first_state(livepatch.states or (), state_id) is not None:
        return None
    return next((each.rule for each in livepatch.declared.of(state_id)), None)


@dataclass(frozen=True, slots=True)
class Sticky:
    """A livepatch in force that is declared to make a state sticky."""

    livepatch: str
    statement: DeclaredState


def sticky(stack: Stack, state_id: int, way: Way) -> Sticky | None:
    """What declares that a state must not go that way."""
    if way not in STICKY_WAYS:
        return None
    return next(
        (
            Sticky(livepatch.name, statement)
            for livepatch in stack.livepatches
            for statement in livepatch.declared.of(state_id)
            if statement.sticky
        ),
        None,
    )


def declared_in(livepatches: Iterable[Livepatch | Installed], state_id: int) -> Rule | None:
    """Where a state is declared, by the first of these livepatches that carries it as a declared one."""
    return next((rule for each in livepatches if (rule := declaring_rule(each, state_id)) is not None), None)
