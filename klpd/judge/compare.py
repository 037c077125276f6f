# SPDX-License-Identifier: GPL-2.0-or-later
"""What an update changes: two livepatch modules compared, whatever the kernel has and whatever the policy says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from klpd.judge import declared, kernel, surroundings
from klpd.judge.reversal import restore_findings
from klpd.judge.rules import Mode, Permission, Policy, Ruling
from klpd.model import (
    Callback,
    Finding,
    Format,
    Function,
    Installed,
    Rule,
    RuleKind,
    Stack,
    StateChange,
    changes,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from klpd.model import Livepatch, Object, State

_ALLOW: Final = Ruling(Permission.ALLOW, Rule(RuleKind.BUILTIN, "two files are compared"))
_NO_POLICY: Final = Policy(mode=Mode.ENFORCE, default=_ALLOW, unknown_states=_ALLOW)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two modules."""

    name: str
    digest: str
    format: Format
    replace: bool | None
    version: str | None = None

    @classmethod
    def of(cls, livepatch: Livepatch) -> Side:
        return cls(livepatch.name, livepatch.digest, livepatch.format, livepatch.replace, livepatch.version)


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """What becomes of one object; one that stays as it is has none."""

    name: str
    functions_added: tuple[Function, ...] = ()
    functions_dropped: tuple[Function, ...] = ()
    callbacks_added: tuple[Callback, ...] = ()
    callbacks_dropped: tuple[Callback, ...] = ()


@dataclass(frozen=True, slots=True)
class Difference:
    """What `new` changes against `old`.  `states` and `objects` are None where those of either cannot be known.

    `loading`: why `new` would not be loaded where `old` is in force, whatever a site says.
    `reversible`: whether the transition from `old` to `new` can be reversed with all states restored; what stands in
    the way of it is in `findings`.  None where that cannot be known.
    """

    old: Side
    new: Side
    states: tuple[StateChange, ...] | None
    objects: tuple[ObjectChange, ...] | None
    loading: tuple[Finding, ...]
    reversible: bool | None
    findings: tuple[Finding, ...] = ()


def compare(old: Livepatch, new: Livepatch) -> Difference:
    """What `new` changes against `old`.  Declared states count like real ones."""
    states = None
    reversible: bool | None = None
    findings: tuple[Finding, ...] = ()
    if old.carried is not None and new.carried is not None:
        before, after = _versions(old.carried), _versions(new.carried)
        states = changes(before, after)
        findings = tuple(_not_restored(old, new, changes(after, before)))
        reversible = _reversible(new, findings)
    loading = tuple(_refused(old, new))
    return Difference(Side.of(old), Side.of(new), states, _objects(old, new), loading, reversible, findings)


def _versions(states: Iterable[State]) -> Mapping[int, int]:
    # The first of several with one id counts, as in klp_get_state().
    return {each.id: each.version for each in reversed(tuple(states))}


def _refused(old: Livepatch, new: Livepatch) -> Iterator[Finding]:
    stack = Stack((Installed.expected(old),), kernel_release=old.kernel_release)
    yield from kernel.load_findings(stack, new, _NO_POLICY)
    yield from surroundings.load_findings(stack, new)
    yield from declared.load_findings(stack, new, _NO_POLICY)


def _not_restored(old: Livepatch, new: Livepatch, back: Iterable[StateChange]) -> Iterator[Finding]:
    moving = replace(Installed.expected(new), transition=True)
    return restore_findings(Stack((Installed.expected(old), moving)), new.name, back, _NO_POLICY)


def _reversible(new: Livepatch, findings: Iterable[Finding]) -> bool | None:
    lacks = [_restores(new, each.state) for each in findings if each.state is not None]
    return None if lacks and False not in lacks else not lacks


def _restores(livepatch: Livepatch, state_id: int) -> bool | None:
    declared = livepatch.declared.restores(state_id)
    return livepatch.restores if declared is None else declared


def _objects(old: Livepatch, new: Livepatch) -> tuple[ObjectChange, ...] | None:
    if old.objects is None or new.objects is None:
        return None
    before, after = _by_name(old.objects), _by_name(new.objects)
    found = (_object(name, before.get(name), after.get(name)) for name in dict.fromkeys((*before, *after)))
    return tuple(each for each in found if each != ObjectChange(each.name))


def _by_name(objects: Iterable[Object]) -> Mapping[str, Object]:
    return {each.name: each for each in objects}


def _object(name: str, old: Object | None, new: Object | None) -> ObjectChange:
    functions = tuple(() if each is None else each.functions for each in (old, new))
    callbacks = tuple(() if each is None else each.callbacks for each in (old, new))
    return ObjectChange(
        name,
        functions_added=_without(functions[1], functions[0]),
        functions_dropped=_without(functions[0], functions[1]),
        callbacks_added=tuple(each for each in callbacks[1] if each not in callbacks[0]),
        callbacks_dropped=tuple(each for each in callbacks[0] if each not in callbacks[1]),
    )


def _without(functions: Iterable[Function], others: Iterable[Function]) -> tuple[Function, ...]:
    """Those that the others do not have.  Without a position, a name is that of the only function (klp_init_func)."""
    taken = {(each.name, each.sympos or 1) for each in others}
    return tuple(each for each in functions if (each.name, each.sympos or 1) not in taken)
