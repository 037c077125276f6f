# SPDX-License-Identifier: GPL-2.0-or-later
"""What an update changes."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from klpd.judge.compare import Difference, ObjectChange, compare
from klpd.model import (
    VMLINUX,
    Callback,
    ChangeKind,
    Format,
    Function,
    Object,
    State,
)
from tests.builders import declares, livepatch

if TYPE_CHECKING:
    from klpd.model import Livepatch

FIRST, SECOND = Function("first"), Function("second")


def patching(*objects: Object) -> Livepatch:
    return dataclasses.replace(livepatch(), objects=objects)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        ({1: 1}, {1: 2}, ChangeKind.UPGRADE),
        ({1: 2}, {1: 1}, ChangeKind.DOWNGRADE),
        ({1: 1}, {1: 1}, ChangeKind.KEEP),
        ({1: 1}, {}, ChangeKind.DROP),
        ({}, {1: 1}, ChangeKind.INTRODUCE),
    ],
)
def test_what_becomes_of_a_state(before: dict[int, int], after: dict[int, int], kind: ChangeKind) -> None:
    found = compare(livepatch("v1", before), livepatch("v2", after))

    assert [each.kind for each in found.states or ()] == [kind]


@pytest.mark.parametrize("unknown_one", ["old", "new"])
def test_states_that_cannot_be_known_are_not_compared(unknown_one: str) -> None:
    sides = {"old": livepatch("v1", {1: 1}), "new": livepatch("v2", {1: 2})}
    sides[unknown_one] = dataclasses.replace(sides[unknown_one], states=None)

    found = compare(**sides)

    assert (found.states, found.reversible, found.findings) == (None, None, ())


def test_of_several_states_with_one_id_the_first_counts() -> None:
    found = compare(livepatch("v1", (State(1, 3), State(1, 9))), livepatch("v2", {1: 4}))

    assert [(each.before, each.after) for each in found.states or ()] == [(3, 4)]


def test_functions_and_callbacks_are_told_by_object() -> None:
    old = patching(
        Object(VMLINUX, (FIRST,), (Callback.POST_UNPATCH,)), Object("nfs", (FIRST,)), Object("gone", (FIRST,))
    )
    new = patching(Object(VMLINUX, (SECOND,), (Callback.PRE_PATCH,)), Object("nfs", (FIRST,)), Object("new", (FIRST,)))

    assert compare(old, new).objects == (
        ObjectChange(VMLINUX, (SECOND,), (FIRST,), (Callback.PRE_PATCH,), (Callback.POST_UNPATCH,)),
        ObjectChange("gone", functions_dropped=(FIRST,)),
        ObjectChange("new", functions_added=(FIRST,)),
    )


@pytest.mark.parametrize(("sympos", "differs"), [(0, False), (1, False), (2, True)])
def test_a_function_of_no_position_is_the_first(sympos: int, differs: bool) -> None:
    found = compare(patching(Object(VMLINUX, (FIRST,))), patching(Object(VMLINUX, (Function("first", sympos),))))

    assert bool(found.objects) is differs


@pytest.mark.parametrize("unknown_one", ["old", "new"])
def test_objects_that_cannot_be_known_are_not_compared(unknown_one: str) -> None:
    sides = {"old": livepatch("v1"), "new": livepatch("v2")}
    sides[unknown_one] = livepatch("v", restores=None)

    assert compare(**sides).objects is None


def test_format_and_replace_are_told_of_both() -> None:
    old = dataclasses.replace(livepatch("v1", replace=None), format=Format.KPATCH_BUILD)
    new = dataclasses.replace(livepatch("v2", replace=True), format=Format.STATIC)

    found = compare(old, new)

    assert (found.old.format, found.old.replace) == (Format.KPATCH_BUILD, None)
    assert (found.new.format, found.new.replace) == (Format.STATIC, True)


@pytest.mark.parametrize(
    ("after", "restores", "reversible"),
    [
        ({1: 2}, True, True),
        ({1: 2}, False, False),
        ({1: 2}, None, None),
        ({1: 1}, False, True),
        ({1: 1, 2: 1}, False, True),
        ({}, False, True),
    ],
    ids=[
        "it can restore it",
        "it cannot",
        "nobody knows",
        "the version stays",
        "a new one goes",
        "a dropped one comes",
    ],
)
def test_a_reversal_is_safe_where_klpd_would_have_it(
    after: dict[int, int], restores: bool | None, reversible: bool | None
) -> None:
    found = compare(livepatch("v1", {1: 1}), livepatch("v2", after, restores=restores))

    assert found.reversible is reversible
    assert [each.code for each in found.findings] == ([] if reversible else ["not-restored"])


@pytest.mark.parametrize(
    ("new", "codes"),
    [
        (livepatch("v2", {1: 3}), []),
        (livepatch("v2", {1: 1}), ["state-downgrade"]),
        (livepatch("v2"), ["state-missing"]),
        (livepatch("v2", replace=False), []),
        (livepatch("v1", {1: 3}), ["already-loaded"]),
        (livepatch("v2", {1: 3}, release="6.2.0-1-amd64"), ["other-kernel"]),
        (livepatch("v2", declared=declares({1: 1})), ["state-missing", "state-downgrade"]),
        (
            dataclasses.replace(livepatch("v2", {1: 3}), objects=(Object(VMLINUX, (), misnamed=True),)),
            ["object-never-comes"],
        ),
    ],
    ids=[
        "up",
        "down",
        "dropped",
        "without replacing",
        "of one name",
        "for another kernel",
        "only declared",
        "misnamed",
    ],
)
def test_why_it_would_not_be_loaded_after_the_old_one(new: Livepatch, codes: list[str]) -> None:
    assert [each.code for each in compare(livepatch("v1", {1: 2}), new).loading] == codes


def test_declared_states_count_like_real_ones() -> None:
    old, new = (
        livepatch(f"v{version}", restores=None, declared=declares({1: version}, restores=False)) for version in (1, 2)
    )

    found = compare(old, new)

    assert [each.kind for each in found.states or ()] == [ChangeKind.UPGRADE]
    assert found.reversible is False


def test_two_files_of_one_name_can_be_compared() -> None:
    found = compare(livepatch("same", {1: 1}), livepatch("same", {1: 2}, restores=False))

    assert found.reversible is False


def test_a_livepatch_is_the_same_as_itself() -> None:
    same = patching(Object(VMLINUX, (FIRST,), (Callback.PRE_PATCH,)))

    found = compare(same, same)

    assert found == Difference(found.old, found.old, (), (), loading=found.loading, reversible=True)
