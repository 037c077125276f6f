# SPDX-License-Identifier: GPL-2.0-or-later
"""The static klp_patch: for each machine, and in each shape that it can have (example.c)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from klpd import module
from klpd.model import VMLINUX, Callback, Function, Object, State
from tests.unit.module.compilers import COMPILERS, example
from tests.unit.module.forgery import Forgery

if TYPE_CHECKING:
    from klpd.model import Livepatch

STATES = (State(1, 0), State(0x1122334455667788, 0xFFFFFFFE))
OBJECTS = (
    Object(
        VMLINUX,
        (Function("first_function"), Function("second_function", 2), Function("third_function")),
        (Callback.POST_PATCH,),
    ),
    Object("other_module", (Function("other_function"),), tuple(Callback)),
    Object("third_module", ()),
)


def read(machine: str, *macros: str) -> Livepatch:
    return module.read_livepatch(example(machine, *macros), file="example.ko")


def facts(livepatch: Livepatch) -> tuple[bool | None, tuple[State, ...] | None, tuple[Object, ...] | None]:
    return livepatch.replace, livepatch.states, livepatch.objects


@pytest.mark.parametrize("machine", COMPILERS)
@pytest.mark.parametrize(
    ("macros", "expected"),
    [
        pytest.param((), (True, STATES, OBJECTS), id="cumulative"),
        pytest.param(("ADDITION",), (False, STATES, OBJECTS), id="not cumulative"),
        pytest.param(("NO_STATES",), (True, (), OBJECTS), id="without states"),
        pytest.param(("EMPTY_STATES",), (True, (), OBJECTS), id="an array of no states"),
        pytest.param(("NO_OBJECTS",), (True, STATES, ()), id="an array of no objects"),
        pytest.param(("STATES_AT_RUN_TIME",), (True, None, OBJECTS), id="states that code fills in"),
        pytest.param(("AT_RUN_TIME",), (None, None, None), id="all that code fills in"),
        pytest.param(("TWO_PATCHES",), (None, None, None), id="two to choose from"),
        pytest.param(("OWNERS",), (True, STATES, OBJECTS), id="other structures that begin with the module"),
        pytest.param(("DEBUG_KOBJECTS",), (True, STATES, OBJECTS), id="larger kobjects"),
        pytest.param(("REPLACE_PARAMETER",), (None, STATES, OBJECTS), id="replace is a parameter"),
        pytest.param(("PARAMETER_REPLACE",), (None, STATES, OBJECTS), id="a parameter sets replace"),
        pytest.param(("PARAMETER_VERSION",), (True, None, OBJECTS), id="a parameter sets a state's version"),
        pytest.param(("PARAMETER_ARRAY",), (True, None, OBJECTS), id="a parameter of several values sets versions"),
        pytest.param(("PARAMETER_ELSEWHERE",), (True, STATES, OBJECTS), id="a parameter of something else"),
    ],
)
def test_what_is_known(
    machine: str, macros: tuple[str, ...], expected: tuple[bool | None, tuple[State, ...] | None, tuple[Object, ...]]
) -> None:
    assert facts(read(machine, *macros)) == expected


@pytest.mark.parametrize(
    ("macros", "expected"),
    [
        pytest.param(("CODE_SETS_REPLACE",), (None, STATES, OBJECTS), id="code sets replace"),
        pytest.param(("ADDITION", "CODE_SETS_REPLACE"), (None, STATES, OBJECTS), id="code lets it replace"),
        pytest.param(("CODE_COPIES_REPLACE",), (None, STATES, OBJECTS), id="code sets replace to what it finds"),
        pytest.param(("CODE_SETS_VERSION",), (True, None, OBJECTS), id="code sets a state's version"),
        pytest.param(("CODE_SETS_ID",), (True, None, OBJECTS), id="code sets a state's id"),
        pytest.param(("CODE_CHOOSES_STATES",), (True, None, OBJECTS), id="code chooses the states"),
        pytest.param(("CODE_CHOOSES_FUNCTIONS",), (True, STATES, None), id="code chooses an object's functions"),
        pytest.param(("CODE_SETS_FUNCTION",), (True, STATES, None), id="code sets which function of a name it is"),
        pytest.param(("CODE_SETS_DATA",), (True, STATES, OBJECTS), id="code sets a state's data"),
    ],
)
def test_what_code_leads_into_is_unknown(
    macros: tuple[str, ...], expected: tuple[bool | None, tuple[State, ...] | None, tuple[Object, ...] | None]
) -> None:
    assert facts(read("x86_64", *macros)) == expected


def test_a_version_that_a_relocation_changes_cannot_be_known() -> None:
    forged = Forgery(example())
    states, callback = forged.symbol("states"), forged.relocation(forged.symbol("objects") + 24)
    forged.write(".rela.data", callback, struct.pack("<Q", states + 8))

    assert module.read_livepatch(forged.done(), file="").states is None


def test_states_that_fill_their_array_to_its_end_are_not_taken_for_all() -> None:
    forged = Forgery(example())
    forged.write(".data", forged.symbol("states") + 48, struct.pack("<QIIQ", 9, 9, 0, 0))

    assert module.read_livepatch(forged.done(), file="").states is None


def test_replace_is_unknown_where_it_is_no_truth_value() -> None:
    forged = Forgery(example())
    forged.write(".data", forged.symbol("patch") + 24, b"\2")

    assert module.read_livepatch(forged.done(), file="").replace is None


def test_what_only_begins_like_a_klp_patch_is_none() -> None:
    forged = Forgery(example())
    forged.write(".rela.data", forged.relocation(forged.symbol("functions") + 8) + 8, bytes(8))

    assert facts(module.read_livepatch(forged.done(), file="")) == (None, None, None)


def test_on_a_machine_whose_relocations_are_not_known_nothing_is_known() -> None:
    forged = Forgery(example()).set(e_machine=243)  # EM_RISCV

    assert facts(module.read_livepatch(forged.done(), file="")) == (None, None, None)
