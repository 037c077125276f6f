# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel would refuse of a livepatch for what else there is in it, and what comes of one that it takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from klpd.judge import surroundings
from klpd.judge.surroundings import load_findings, notes, passes
from klpd.judge.verdict import judge
from klpd.model import (
    NOTES,
    VMLINUX,
    Circumstances,
    Decision,
    Demand,
    Function,
    InstalledObject,
    Load,
    Needed,
    Object,
    Signature,
    Surroundings,
    SymbolCount,
    Taken,
)
from tests.builders import installed, livepatch, policy, stack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from klpd.model import Finding, Installed, Livepatch, Rule, Verdict

F: Final = Function("f")
KERNEL: Final = Object(VMLINUX, (F,))
MODULE: Final = Object("module", (F,))
MISNAMED: Final = Object(VMLINUX, (F,), misnamed=True)
TAKEN: Final = Taken(VMLINUX, "f", "a kprobe")
AT_REST: Final = Circumstances(modules=("module",), taken=(), ftrace=True, demand=Demand.NOTHING)
ALONE: Final = replace(AT_REST, modules=())
SIGNED: Final = Signature("somebody", "01", "sha256")


def patching(*objects: Object, needs: tuple[Needed, ...] = (), signature: Signature | None = None) -> Livepatch:
    return replace(livepatch("new"), objects=objects, needs=needs, signature=signature)


def having(circumstances: Circumstances = AT_REST, **counts: int) -> Surroundings:
    """With so many symbols of these names in each object."""
    objects = (VMLINUX, *(circumstances.modules or ()))
    return Surroundings(
        circumstances, tuple(SymbolCount(each, name, count) for each in objects for name, count in counts.items())
    )


def found(wanted: Livepatch, around: Surroundings, *present: Installed) -> tuple[Finding, ...]:
    return tuple(load_findings(replace(stack(*present), surroundings=around), wanted))


def denials(findings: Iterable[Finding]) -> list[tuple[str, Rule]]:
    refusing = [each for each in findings if each.decision is Decision.DENY]
    assert all(each.remedy for each in refusing)
    return [(each.code, each.rule) for each in refusing]


@pytest.mark.parametrize(
    ("wanted", "around", "codes"),
    [
        # klp_find_object_symbol: how often the name is there, and which one is meant
        (KERNEL, having(f=1), []),
        (KERNEL, having(f=0), ["function-missing"]),
        (KERNEL, having(f=2), ["function-ambiguous"]),
        (Object(VMLINUX, (Function("f", 1),)), having(f=1), []),
        (Object(VMLINUX, (Function("f", 2),)), having(f=2), []),
        (Object(VMLINUX, (Function("f", 3),)), having(f=2), ["function-missing"]),
        (Object(VMLINUX, (Function("f", 1),)), having(f=0), ["function-missing"]),
        (MODULE, having(f=0), ["function-missing"]),
        # what is said already of a function without a name is not said again
        (Object(VMLINUX, (Function(""),)), having(), []),
        # a module that is not loaded is looked through when it comes
        (MODULE, having(ALONE, f=0), []),
        # what cannot be told is not refused
        (KERNEL, having(), []),
        (MODULE, having(replace(AT_REST, modules=None), f=0), []),
    ],
)
def test_a_function_has_to_be_there_just_once_or_to_be_told_by_its_position(
    wanted: Object, around: Surroundings, codes: list[str]
) -> None:
    assert denials(found(patching(wanted), around)) == [(each, surroundings.SYMBOL) for each in codes]


@pytest.mark.parametrize(
    ("needed", "around", "codes"),
    [
        (Needed(VMLINUX, VMLINUX, "s"), having(f=1, s=1), []),
        (Needed(VMLINUX, VMLINUX, "s"), having(f=1, s=0), ["symbol-missing"]),
        (Needed(VMLINUX, VMLINUX, "s"), having(f=1, s=2), ["symbol-ambiguous"]),
        (Needed(VMLINUX, VMLINUX, "s", 2), having(f=1, s=2), []),
        (Needed(VMLINUX, VMLINUX, "s", 3), having(f=1, s=2), ["symbol-missing"]),
        (Needed("module", "module", "s"), having(f=1, s=0), ["symbol-missing"]),
        (Needed("module", "other", "s"), having(f=1), ["symbol-missing"]),
        # relocations for a module are done when that comes
        (Needed("module", "module", "s"), having(ALONE, f=1), []),
        # and not at all for one that the livepatch does not patch
        (Needed("other", "module", "s"), having(f=1, s=0), []),
        (Needed(VMLINUX, VMLINUX, "s"), having(f=1), []),
    ],
)
def test_a_symbol_that_relocations_need_is_looked_for_in_the_same_way(
    needed: Needed, around: Surroundings, codes: list[str]
) -> None:
    wanted = patching(KERNEL, MODULE, needs=(needed,))
    assert denials(found(wanted, around)) == [(each, surroundings.RELOCATION) for each in codes]


@pytest.mark.parametrize(
    ("wanted", "around", "present", "refused"),
    [
        (KERNEL, having(replace(AT_REST, taken=(TAKEN,)), f=1), [], True),
        (KERNEL, having(replace(AT_REST, taken=(TAKEN,))), [], True),
        (MODULE, having(replace(AT_REST, taken=(TAKEN,)), f=1), [], False),
        (MODULE, having(replace(AT_REST, taken=(replace(TAKEN, object="module"),)), f=1), [], True),
        # livepatches share a function
        (
            KERNEL,
            having(replace(AT_REST, taken=(TAKEN,)), f=1),
            [replace(installed("old"), objects=(InstalledObject(VMLINUX, (F,)),))],
            False,
        ),
        # which of several by that name it is, is not told
        (Object(VMLINUX, (Function("f", 2),)), having(replace(AT_REST, taken=(TAKEN,)), f=2), [], False),
        (Object(VMLINUX, (Function("f", 2),)), having(replace(AT_REST, taken=(TAKEN,))), [], False),
        (Object(VMLINUX, (Function("f", 1),)), having(replace(AT_REST, taken=(TAKEN,)), f=1), [], True),
        (KERNEL, having(replace(AT_REST, taken=None), f=1), [], False),
    ],
)
def test_a_function_that_somebody_else_has_to_himself_is_not_to_be_had(
    wanted: Object, around: Surroundings, present: list[Installed], refused: bool
) -> None:
    findings = found(patching(wanted), around, *present)
    assert denials(findings) == ([("function-taken", surroundings.IPMODIFY)] if refused else [])
    assert all("by a kprobe" in each.message for each in findings if each.code == "function-taken")


@pytest.mark.parametrize(
    ("wanted", "ftrace", "refused"),
    [
        (KERNEL, False, True),
        (KERNEL, True, False),
        (KERNEL, None, False),
        (Object(VMLINUX, ()), False, False),
        (Object("absent", (F,)), False, False),
    ],
)
def test_without_tracing_no_function_is_replaced(wanted: Object, ftrace: bool | None, refused: bool) -> None:
    around = having(replace(AT_REST, ftrace=ftrace), f=1)
    assert denials(found(patching(wanted), around)) == ([("tracing-off", surroundings.FTRACE)] if refused else [])


@pytest.mark.parametrize(
    ("demand", "signature", "refused"),
    [
        (Demand.SIG_ENFORCE, None, True),
        (Demand.LOCKDOWN, None, True),
        (Demand.NOTHING, None, False),
        (Demand.UNCHECKED, None, False),
        (None, None, False),
        # of a signature, only the kernel knows whether it has the key
        (Demand.SIG_ENFORCE, SIGNED, False),
    ],
)
def test_a_kernel_that_demands_signatures_takes_nothing_without(
    demand: Demand | None, signature: Signature | None, refused: bool
) -> None:
    around = having(replace(AT_REST, demand=demand), f=1)
    findings = found(patching(KERNEL, signature=signature), around)
    assert denials(findings) == ([("unsigned", surroundings.SIGNATURE)] if refused else [])


def test_an_object_named_vmlinux_never_comes_whatever_else_is_known() -> None:
    for where in (stack(), replace(stack(), surroundings=having(f=0))):
        assert denials(load_findings(where, patching(MISNAMED))) == [("object-never-comes", surroundings.NEVER)]


@pytest.mark.parametrize(
    ("wanted", "around", "told"),
    [
        (patching(KERNEL, MODULE), having(f=1), ["takes effect at once in vmlinux, module"]),
        (
            patching(KERNEL, MODULE),
            having(ALONE, f=1),
            ["takes effect at once in vmlinux", "takes effect in module when that module comes"],
        ),
        (patching(MODULE), having(ALONE, f=1), ["takes effect in module when that module comes"]),
        (patching(Object(VMLINUX, ())), having(), []),
        (patching(KERNEL), having(), ["takes effect at once in vmlinux", "in /proc/kallsyms, which could not be read"]),
        (
            patching(KERNEL),
            having(replace(AT_REST, taken=None), f=1),
            ["takes effect at once in vmlinux", "in tracefs, which could not be read"],
        ),
        (patching(MODULE), having(replace(AT_REST, modules=None)), ["/proc/modules could not be read"]),
        (replace(livepatch("new"), objects=None), having(), ["is not to be read from its file"]),
        (
            patching(KERNEL, signature=SIGNED),
            having(replace(AT_REST, demand=Demand.LOCKDOWN), f=1),
            ["takes effect at once in vmlinux", "only the kernel knows"],
        ),
    ],
)
def test_what_comes_of_a_load_and_what_was_not_checked_is_told(
    wanted: Livepatch, around: Surroundings, told: list[str]
) -> None:
    findings = tuple(notes(replace(stack(), surroundings=around), wanted))
    assert {each.decision for each in findings} <= {Decision.ALLOW}
    assert {each.code for each in findings} <= NOTES
    assert len(findings) == len(told)
    assert all(part in each.message for part, each in zip(told, findings, strict=True))


def test_nothing_is_said_of_surroundings_that_nobody_looked_at() -> None:
    assert list(load_findings(stack(), patching(KERNEL))) == []
    assert list(notes(stack(), patching(KERNEL))) == []


def test_what_is_told_beside_is_no_reason_for_an_approval() -> None:
    verdict = _judged(having(f=1))
    assert verdict.decision is Decision.ALLOW
    assert [each.code for each in verdict.notes] == ["in-effect-at-once"]
    assert [each.code for each in verdict.reasons] == ["default"]


def _judged(around: Surroundings) -> Verdict:
    return judge(replace(stack(), surroundings=around), Load(patching(KERNEL)), policy())


def test_only_what_may_be_gone_in_a_moment_passes() -> None:
    assert passes(_judged(having(f=0)))
    assert passes(_judged(having(replace(AT_REST, taken=(TAKEN,)), f=1)))
    assert not passes(_judged(having(f=1)))
    assert not passes(judge(stack(), Load(replace(livepatch("new"), vermagic="other")), policy()))
