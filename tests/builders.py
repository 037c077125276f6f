# SPDX-License-Identifier: GPL-2.0-or-later
"""Short ways to write down livepatches, stacks and policies: a test names what it is about, the rest is ordinary."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from klpd.judge.rules import STICKY_WAYS, Mode, Permission, Policy, Ruling, StateRule, TransitionRules
from klpd.kernel.guard_abi import GuardEvent, GuardMode, GuardVerdict, Input, Lock, Way
from klpd.model import (
    UNDECLARED,
    VMLINUX,
    Callback,
    Declaration,
    DeclaredState,
    Installed,
    Livepatch,
    Object,
    Rule,
    RuleKind,
    Stack,
    State,
    StatesSource,
)

if TYPE_CHECKING:
    from klpd.judge.rules import LivepatchRule, Manifest
    from klpd.model import Leftover

RELEASE: Final = "6.1.0-test"
POLICY_FILE: Final = "/etc/klpd/policy.d/50-site.toml"
MANIFEST: Final = "/etc/klpd/livepatches.d/new.toml"

_RESTORING: Final = Object(VMLINUX, (), (Callback.POST_UNPATCH,))

States = Mapping[int, int] | tuple[State, ...] | None
"""State id -> version; or the very array, where duplicates or its order matter; or None for unknown states."""


def livepatch(
    name: str = "klp_new",
    states: States = (),
    *,
    replace: bool | None = True,
    release: str = RELEASE,
    digest: str | None = None,
    build_id: str | None = None,
    restores: bool | None = False,
    declared: Declaration = UNDECLARED,
) -> Livepatch:
    """A livepatch for RELEASE.  Two with the same name, states, `replace` and `restores` are the same file."""
    array = tuple(State(*each) for each in states.items()) if isinstance(states, Mapping) else states
    content = hashlib.sha256(f"{name} {array} {replace} {restores}".encode()).hexdigest()
    return Livepatch(
        name=name,
        digest=digest or content,
        size=4096,
        replace=replace,
        states=array,
        objects=None if restores is None else (_RESTORING,) if restores else (),
        vermagic=f"{release} SMP preempt mod_unload modversions ",
        build_id=build_id or content[:40],
        declared=declared,
    )


def declares(
    states: Mapping[int, int], *, sticky: bool = False, restores: bool | None = None, file: str = MANIFEST
) -> Declaration:
    """What a manifest declares, one state a line."""
    return Declaration(
        tuple(
            DeclaredState(
                state_id,
                version,
                Rule(RuleKind.DECLARED, file, line),
                StatesSource.MANIFEST,
                sticky=sticky,
                restores=restores,
            )
            for line, (state_id, version) in enumerate(states.items(), start=1)
        ),
        files=(file,),
    )


def installed(
    name: str,
    states: States = (),
    *,
    replace: bool | None = False,
    enabled: bool = True,
    transition: bool = False,
    forced: bool = False,
    restores: bool | None = False,
    declared: Declaration = UNDECLARED,
) -> Installed:
    """`livepatch(name, states, replace=replace, restores=restores, declared=declared)` in the kernel."""
    return dataclasses.replace(
        Installed.expected(livepatch(name, states, replace=replace, restores=restores, declared=declared)),
        enabled=enabled,
        transition=transition,
        forced=forced,
    )


def stack(*livepatches: Installed, leftovers: tuple[Leftover, ...] = (), readable: bool = True) -> Stack:
    """A stack of RELEASE, the oldest livepatch first."""
    return Stack(livepatches, leftovers, kernel_release=RELEASE, readable=readable)


def names(what: Stack) -> list[str]:
    return [each.name for each in what.livepatches]


def leftover_names(what: Stack) -> list[str]:
    return [each.name for each in what.leftovers]


def refusal(**changes: Any) -> GuardEvent:  # noqa: ANN401
    """The guard has refused a livepatch that nobody has approved, from a file; but for the `changes` of its members."""
    event = GuardEvent(
        time_ns=1,
        generation=1,
        lock=Lock.LOAD,
        way=Way.FILE,
        input=Input.LIVEPATCH,
        verdict=GuardVerdict.UNAPPROVED,
        allowed=False,
        mode=GuardMode.ENFORCE,
        pid=7,
        tid=7,
        uid=0,
        command="insmod",
        module="klp_one",
        size=100,
        digest="d1",
    )
    return dataclasses.replace(event, **changes)


def ruling(permission: Permission, line: int = 1) -> Ruling:
    """What a line of POLICY_FILE says."""
    return Ruling(permission, Rule(RuleKind.POLICY, POLICY_FILE, line))


def allowing(line: int = 1) -> Ruling:
    return ruling(Permission.ALLOW, line)


def denying(line: int = 1) -> Ruling:
    return ruling(Permission.DENY, line)


def sticky(state_id: int, *, line: int = 1) -> StateRule:
    """`sticky = true` for a state."""
    return StateRule(state_id, denying(line).rule, rulings=dict.fromkeys(STICKY_WAYS, denying(line)))


def policy(
    *states: StateRule,
    default: Ruling | None = None,
    unknown_states: Ruling | None = None,
    livepatches: tuple[LivepatchRule, ...] = (),
    force: Ruling | None = None,
    unpatched_gap: Ruling | None = None,
    mode: Mode = Mode.ENFORCE,
    manifests: tuple[Manifest, ...] = (),
) -> Policy:
    """A policy that allows what it is not told to deny."""
    return Policy(
        mode=mode,
        default=default or allowing(),
        unknown_states=unknown_states or allowing(),
        transition=TransitionRules(force=force or allowing()),
        unpatched_gap=unpatched_gap or allowing(),
        states={each.id: each for each in states},
        livepatches=livepatches,
        manifests=manifests,
    )
