# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules for kernels whose structures are others than today's: each is read by what its kernel's BTF tells of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from klpd import module
from klpd.layout import KNOWN, KernelLayout
from klpd.model import Format
from tests.unit.module.compilers import example, layout
from tests.unit.module.forgery import Forgery
from tests.unit.module.test_static import OBJECTS, STATES, facts

if TYPE_CHECKING:
    from pathlib import Path

    from klpd.model import Livepatch

UNFAMILIAR: Final = KernelLayout(None, "BTF, not understood: all of it")
USUAL: Final = ((), ("ADDITION",), ("NO_STATES",), ("EMPTY_STATES",), ("NO_OBJECTS",), ("AT_RUN_TIME",), ("OWNERS",))


def read(data: bytes, by: KernelLayout) -> Livepatch:
    return module.read_livepatch(data, file="example.ko", layouts=lambda _release, _machine: by)


@pytest.mark.parametrize("machine", ["x86_64", "s390x"])
@pytest.mark.parametrize("macros", [(), ("REORDERED",), ("DEBUG_KOBJECTS",)], ids=["today's", "reordered", "debugging"])
def test_everything_is_read_where_the_kernel_has_it(machine: str, macros: tuple[str, ...]) -> None:
    found = read(example(machine, *macros), layout(*macros))
    assert facts(found) == (True, STATES, OBJECTS)
    assert found.layout == "BTF"


@pytest.mark.parametrize("machine", ["x86_64", "s390x"])
@pytest.mark.parametrize(
    ("macros", "known"),
    [
        pytest.param(("REPLACE_SET",), (None, STATES, OBJECTS), id="replace_set in the place of replace"),
        pytest.param(("NO_VERSION",), (True, None, OBJECTS), id="states without a version"),
        pytest.param(("NO_VERSION", "NO_STATES"), (True, (), OBJECTS), id="no states, whatever they would be"),
        pytest.param(("NO_CALLBACKS",), (True, STATES, None), id="callbacks elsewhere: what they restore is not known"),
    ],
)
def test_what_the_kernel_has_otherwise_is_unknown(
    machine: str, macros: tuple[str, ...], known: tuple[object, ...]
) -> None:
    assert facts(read(example(machine, *macros), layout(*macros))) == known


def test_without_the_kernels_word_a_changed_structure_would_seem_to_say_something_else() -> None:
    """Why a kernel is asked at all."""
    assert facts(read(example("x86_64", "REPLACE_SET"), KNOWN))[0] is True
    assert facts(read(example("x86_64", "NO_VERSION"), KNOWN))[1] not in (None, ())


@pytest.mark.parametrize("macros", USUAL, ids=[" ".join(each) or "cumulative" for each in USUAL])
def test_the_known_layout_and_todays_kernels_agree(macros: tuple[str, ...]) -> None:
    assert facts(read(example("x86_64", *macros), layout())) == facts(read(example("x86_64", *macros), KNOWN))


def test_they_agree_on_all_test_livepatches(modules: dict[str, Path]) -> None:
    for name, path in modules.items():
        data = path.read_bytes()
        if module.is_livepatch(data):
            told, known = read(data, layout()), read(data, KNOWN)
            assert (told.format, *facts(told)) == (known.format, *facts(known)), name


def test_entries_of_another_size_than_the_kernels_are_not_guessed_at() -> None:
    larger = example("x86_64", "DEBUG_KOBJECTS")
    assert facts(read(larger, KNOWN)) == (True, STATES, OBJECTS)
    assert facts(read(larger, layout()))[2] is None
    assert facts(read(example(), layout("DEBUG_KOBJECTS")))[2] is None


@pytest.mark.parametrize("size", [16, 0], ids=["its symbol tells", "its section tells"])
def test_what_has_no_room_for_a_klp_patch_is_none(size: int) -> None:
    cut = Forgery(example("x86_64", "CUT")).resize_symbol("cut", size).done()
    assert facts(read(cut, KNOWN)) == (None, None, None)  # two to choose from
    assert facts(read(cut, layout())) == (True, STATES, OBJECTS)


def test_what_would_begin_before_its_section_is_none() -> None:
    assert facts(read(example("x86_64", "REORDERED", "CUT"), layout("REORDERED"))) == (True, STATES, OBJECTS)


def test_where_nothing_is_understood_what_may_be_a_klp_patch_tells_nothing() -> None:
    found = read(example(), UNFAMILIAR)
    assert (found.format, facts(found)) == (Format.UNKNOWN, (None, None, None))
    assert found.layout == UNFAMILIAR.source
    assert facts(read(example("x86_64", "KPATCH_BUILD"), UNFAMILIAR)) == (None, None, None)


@pytest.mark.parametrize("form", ["KPATCH_BUILD", 'KLP_BUILD="__klp_objects"'])
def test_the_tables_of_tools_are_read_without_asking_the_kernel(form: str) -> None:
    data = example("x86_64", "AT_RUN_TIME", form)
    found = read(data, UNFAMILIAR)
    assert found.layout is None
    assert found == read(data, KNOWN)


def test_the_kernel_that_is_asked_is_the_one_that_the_module_is_for() -> None:
    asked = []

    def layouts(release: str, machine: str) -> KernelLayout:
        asked.append((release, machine))
        return KNOWN

    module.read_livepatch(example("s390x"), file="example.ko", layouts=layouts)
    assert asked == [("6.1.0", "EM_S390")]
