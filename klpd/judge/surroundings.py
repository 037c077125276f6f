# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel finds around a livepatch that is to come: the objects, the symbols, and who is there before it.

The kernel looks when it loads the module and in klp_enable_patch(), for what is there then; for a module that is not
loaded it looks when that comes, and refuses that module, not the livepatch.  What cannot be known is refused nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from klpd.judge.findings import deny
from klpd.model import VMLINUX, Decision, Demand, Finding, Rule, RuleKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from klpd.model import Function, Livepatch, Object, Stack, Surroundings, Verdict

SYMBOL: Final = Rule(RuleKind.KERNEL, "klp_find_object_symbol in kernel/livepatch/core.c")
RELOCATION: Final = Rule(RuleKind.KERNEL, "klp_resolve_symbols in kernel/livepatch/core.c")
IPMODIFY: Final = Rule(RuleKind.KERNEL, "__ftrace_hash_update_ipmodify in kernel/trace/ftrace.c")
FTRACE: Final = Rule(RuleKind.KERNEL, "__register_ftrace_function in kernel/trace/ftrace.c")
SIGNATURE: Final = Rule(RuleKind.KERNEL, "module_sig_check in kernel/module/signing.c")
MODULE: Final = Rule(RuleKind.KERNEL, "klp_find_object_module in kernel/livepatch/core.c")
NEVER: Final = Rule(RuleKind.BUILTIN, "what a livepatch is to patch can be there")
KNOWN: Final = Rule(RuleKind.BUILTIN, "what cannot be known is not refused")

_PASSING: Final = frozenset(
    {
        "unsigned",
        "tracing-off",
        "function-missing",
        "function-ambiguous",
        "function-taken",
        "symbol-missing",
        "symbol-ambiguous",
    }
)
_MOST_TOLD: Final = 8
"""Of the names in a sentence."""


@dataclass(frozen=True, slots=True)
class _Sought:
    """A symbol that the kernel looks for, as a sentence has it, and what helps where it does not find the one."""

    noun: str
    several: str
    rule: Rule
    if_missing: str
    if_ambiguous: str


def _function_of(owner: str) -> _Sought:
    return _Sought(
        "function",
        "symbols of that name",
        SYMBOL,
        f"build it for this kernel's {owner}, with the names that /proc/kallsyms has",
        "build it with the position (old_sympos) of the one that is meant",
    )


def _symbol_of(owner: str) -> _Sought:
    return _Sought(
        "symbol",
        "of that name",
        RELOCATION,
        f"build it for this kernel's {owner}",
        "build it with the position of the one that is meant",
    )


def passes(verdict: Verdict) -> bool:
    """Whether anything stands in the way that may be gone at any time, without a change of the stack to tell of it."""
    return any(each.decision is Decision.DENY and each.code in _PASSING for each in verdict.findings)


def load_findings(stack: Stack, livepatch: Livepatch) -> Iterator[Finding]:
    """What the kernel would refuse of loading `livepatch` for what else there is, and what nothing would come of."""
    for each in livepatch.objects or ():
        if each.misnamed:
            yield _never(livepatch, each)
    around = stack.surroundings
    if around is None:
        return
    yield from _unsigned(livepatch, around)
    there = _there(livepatch, around)
    yield from _tracing_off(livepatch, there, around)
    taken, counts = _taken(stack, around), around.counts
    for each in there:
        for function in dict.fromkeys(each.functions):
            count = counts.get((each.name, function.name))
            if count is not None and function.name:
                what = f"{livepatch.name} replaces {function.name} of {each.name}"
                yield from _lookup(_function_of(each.name), what, function.sympos, count)
            by = taken.get((each.name, function.name))
            # Of several by that name it is not told which one it is.
            if by is not None and (count == 1 or (count is None and function.sympos == 0)):
                yield _in_the_way(livepatch, each, function, by)
    yield from _unresolved(livepatch, there, around)


def notes(stack: Stack, livepatch: Livepatch) -> Iterator[Finding]:
    """What is in effect when `livepatch` has been loaded, what waits for a module, and what could not be checked."""
    around = stack.surroundings
    if around is not None:
        there = _there(livepatch, around)
        yield from _effect(livepatch, there, around)
        yield from _unchecked(livepatch, there, around)


def _there(livepatch: Livepatch, around: Surroundings) -> tuple[Object, ...]:
    """Its objects that are there to be patched at once."""
    loaded = around.circumstances.loaded or frozenset({VMLINUX})
    return tuple(each for each in livepatch.objects or () if each.name in loaded and not each.misnamed)


def _never(livepatch: Livepatch, misnamed: Object) -> Finding:
    return deny(
        "object-never-comes",
        NEVER,
        f'{livepatch.name} patches an object that is named "{misnamed.name}", which the kernel takes for a module of '
        "that name and not for itself: it would load, and never replace "
        f"{_listed(each.name for each in misnamed.functions) or 'anything'}",
        "build it with NULL as the name of the klp_object that is for the kernel itself",
    )


def _unsigned(livepatch: Livepatch, around: Surroundings) -> Iterator[Finding]:
    """Of one that is signed, only the kernel knows whether it has the key."""
    demand = around.circumstances.demand
    if livepatch.signature is None and demand in (Demand.SIG_ENFORCE, Demand.LOCKDOWN):
        why = "module.sig_enforce is set" if demand is Demand.SIG_ENFORCE else "it is locked down"
        yield deny(
            "unsigned",
            SIGNATURE,
            f"this kernel takes no module without a signature that its own keyrings verify, since {why}, and "
            f"{livepatch.name} has none",
            "sign it with a key that this kernel has: klpctl inspect tells what it demands",
        )


def _tracing_off(livepatch: Livepatch, there: tuple[Object, ...], around: Surroundings) -> Iterator[Finding]:
    if around.circumstances.ftrace is False and any(each.functions for each in there):
        yield deny(
            "tracing-off",
            FTRACE,
            f"kernel.ftrace_enabled is 0, and the kernel has to trace the functions that {livepatch.name} replaces",
            "sysctl kernel.ftrace_enabled=1",
        )


def _lookup(sought: _Sought, what: str, sympos: int, count: int) -> Iterator[Finding]:
    """What the kernel says where an object has so many symbols of the name that it looks for at a position."""
    if count < max(sympos, 1):
        too_few = f"its symbol number {sympos}, which has {count} of that name"
        found = too_few if count else f"which has no such {sought.noun}"
        yield deny(f"{sought.noun}-missing", sought.rule, f"{what}, {found}", sought.if_missing)
    elif count > 1 and sympos == 0:
        several = f"which has {count} {sought.several}, and does not say which"
        yield deny(f"{sought.noun}-ambiguous", sought.rule, f"{what}, {several}", sought.if_ambiguous)


def _taken(stack: Stack, around: Surroundings) -> dict[tuple[str, str], str]:
    """Who has functions to himself that is no livepatch, by object and function: livepatches share theirs."""
    patched = {
        (each.name, function.name)
        for installed in stack.livepatches
        for each in installed.objects
        for function in each.functions
    }
    return {
        (each.object, each.function): each.by
        for each in around.circumstances.taken or ()
        if (each.object, each.function) not in patched
    }


def _in_the_way(livepatch: Livepatch, owner: Object, function: Function, by: str) -> Finding:
    return deny(
        "function-taken",
        IPMODIFY,
        f"{livepatch.name} replaces {function.name} of {owner.name}, and the calls of it are led elsewhere already, as "
        f"only one may do: by {by}",
        "have that removed by whoever placed it; /sys/kernel/debug/kprobes/list and "
        "/sys/kernel/tracing/enabled_functions show what there is",
    )


def _unresolved(livepatch: Livepatch, there: tuple[Object, ...], around: Surroundings) -> Iterator[Finding]:
    """The relocations for the kernel itself are done whatever the livepatch patches; others with their object."""
    loaded, counts = around.circumstances.loaded, around.counts
    done = {VMLINUX, *(each.name for each in there)}
    for needed in livepatch.needs or ():
        if needed.by not in done:
            continue
        what = f"{livepatch.name} needs {needed.name} of {needed.object}"
        if loaded is not None and needed.object not in loaded:
            yield deny("symbol-missing", RELOCATION, f"{what}, which is not loaded", f"modprobe {needed.object}")
            continue
        count = counts.get((needed.object, needed.name))
        if count is not None:
            yield from _lookup(_symbol_of(needed.object), what, needed.sympos, count)


def _effect(livepatch: Livepatch, there: tuple[Object, ...], around: Surroundings) -> Iterator[Finding]:
    """What is in effect when the transition is over, and what not before a module comes."""
    now = [each.name for each in there if each.functions]
    if now:
        yield _told("in-effect-at-once", f"{livepatch.name} takes effect at once in {_listed(now)}")
    if around.circumstances.modules is None:
        return
    for each in livepatch.objects or ():
        if each not in there and not each.misnamed:
            yield _told(
                "waits-for-module",
                f"{livepatch.name} takes effect in {each.name} when that module comes, which is not loaded; whether it "
                "finds there what it needs, the kernel checks then, and refuses the module if not",
            )


def _unchecked(livepatch: Livepatch, there: tuple[Object, ...], around: Surroundings) -> Iterator[Finding]:
    """What the kernel looks at and nobody could here, since it is in no file or not for this user to see."""
    why = []
    circumstances = around.circumstances
    told = {each.object for each in around.symbols}
    if livepatch.objects is None:
        why.append("which functions it replaces is not to be read from its file")
    elif any(each.functions and each.name not in told for each in there):
        why.append("whether the functions are there is in /proc/kallsyms, which could not be read")
    if there and circumstances.taken is None:
        why.append(
            "whether somebody else has the functions to himself is in tracefs, which could not be read, or had too "
            "much to tell"
        )
    if circumstances.modules is None:
        why.append("/proc/modules could not be read")
    if livepatch.signature is not None and circumstances.demand in (Demand.SIG_ENFORCE, Demand.LOCKDOWN):
        why.append("whether this kernel has the key that its signature is from, only the kernel knows")
    for each in why:
        yield Finding(Decision.ALLOW, "not-checked", KNOWN, f"not checked beforehand: {each}", livepatch=livepatch.name)


def _told(code: str, message: str) -> Finding:
    return Finding(Decision.ALLOW, code, MODULE, message)


def _listed(names: Iterable[str]) -> str:
    every = list(dict.fromkeys(names))
    told = every[:_MOST_TOLD]
    more = len(every) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")
