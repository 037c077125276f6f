# SPDX-License-Identifier: GPL-2.0-or-later
"""What kpatch-build and klp-build make, and which format a module is of, for each machine (example.c)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import pytest

from klpd import module
from klpd.errors import ModuleFormatError
from klpd.model import VMLINUX, Callback, Format, Function, Object
from klpd.module.structures import MOST_ENTRIES
from tests.unit.module.compilers import COMPILERS, example
from tests.unit.module.forgery import Forgery

if TYPE_CHECKING:
    from klpd.model import Livepatch

KPATCH_BUILD: Final = ("AT_RUN_TIME", "KPATCH_BUILD")
KLP_BUILD: Final = ("AT_RUN_TIME", 'KLP_BUILD="__klp_objects"')
KLP_BUILD_7: Final = ("AT_RUN_TIME", 'KLP_BUILD=".init.klp_objects"')

PATCHED: Final = (
    Object(
        VMLINUX,
        (Function("first_function"), Function("second_function", 2), Function("third_function")),
        (Callback.POST_PATCH,),
    ),
    Object("other_module", (Function("other_function"),), tuple(Callback)),
)


def read(data: bytes) -> Livepatch:
    return module.read_livepatch(data, file="example.ko")


def unfamiliar(data: bytes, form: Format) -> bool:
    """Whether nothing is known of a livepatch but its format."""
    found = read(data)
    return (found.format, found.replace, found.states, found.objects) == (form, None, None, None)


@pytest.mark.parametrize("machine", COMPILERS)
@pytest.mark.parametrize(
    ("macros", "form", "third"),
    [
        pytest.param(KPATCH_BUILD, Format.KPATCH_BUILD, (Callback.POST_UNPATCH,), id="kpatch-build"),
        pytest.param(KLP_BUILD, Format.KLP_BUILD, (), id="klp-build of Linux 6.19"),
        pytest.param(KLP_BUILD_7, Format.KLP_BUILD, (), id="klp-build of Linux 7.0"),
    ],
)
def test_tables_tell_all_but_whether_it_replaces_and_there_are_no_states(
    machine: str, macros: tuple[str, ...], form: Format, third: tuple[Callback, ...]
) -> None:
    found = read(example(machine, *macros))

    assert (found.format, found.replace, found.states) == (form, None, ())
    assert found.objects == (*PATCHED, Object("third_module", (), third))


def test_a_section_of_kpatchs_that_is_not_known_may_have_states() -> None:
    found = read(example("x86_64", *KPATCH_BUILD, "KPATCH_STATES"))
    assert (found.format, found.states) == (Format.KPATCH_BUILD, None)
    assert found.objects == read(example("x86_64", *KPATCH_BUILD)).objects


@pytest.mark.parametrize(
    ("macros", "form"),
    [
        ((), Format.STATIC),
        (("AT_RUN_TIME",), Format.UNKNOWN),
        (("TWO_PATCHES",), Format.STATIC),
        (("EMPTY_KLP_OBJECTS",), Format.STATIC),
        (("KPATCH_BUILD",), Format.UNKNOWN),
        (('KLP_BUILD="__klp_objects"',), Format.UNKNOWN),
        ((*KPATCH_BUILD, *KLP_BUILD), Format.UNKNOWN),
    ],
    ids=[
        "a klp_patch",
        "nothing",
        "two klp_patches",
        "a klp_patch, and what Linux 6.19 leaves in every module",
        "a klp_patch and kpatch-build's tables",
        "a klp_patch and klp-build's arrays",
        "both tools' tables",
    ],
)
def test_the_format_is_that_of_what_is_there_alone(macros: tuple[str, ...], form: Format) -> None:
    assert read(example("x86_64", *macros)).format is form


def test_what_more_than_one_format_fits_tells_nothing() -> None:
    assert unfamiliar(example("x86_64", "KPATCH_BUILD"), Format.UNKNOWN)


@pytest.mark.parametrize(
    ("macros", "form", "section", "size"),
    [
        (KPATCH_BUILD, Format.KPATCH_BUILD, ".kpatch.funcs", 4 * 48),
        (KPATCH_BUILD, Format.KPATCH_BUILD, ".kpatch.callbacks.pre_patch", 20),
        (KLP_BUILD, Format.KLP_BUILD, "__klp_objects", 3 * 24),
    ],
)
def test_entries_of_another_size_are_not_guessed_at(
    macros: tuple[str, ...], form: Format, section: str, size: int
) -> None:
    forged = Forgery(example("x86_64", *macros))
    forged.set_section(forged.index(section), sh_size=size)

    assert unfamiliar(forged.done(), form)


@pytest.mark.parametrize(
    ("macros", "form", "section"),
    [
        (KPATCH_BUILD, Format.KPATCH_BUILD, ".kpatch.funcs"),
        (KPATCH_BUILD, Format.KPATCH_BUILD, ".kpatch.callbacks.post_unpatch"),
        (KLP_BUILD, Format.KLP_BUILD, "__klp_objects"),
    ],
)
@pytest.mark.parametrize("change", [{"sh_type": 8}, {"sh_flags": 6}, {"sh_flags": 0}], ids=["zeros", "code", "no data"])
def test_a_table_that_the_kernel_would_not_have_as_data_is_none(
    macros: tuple[str, ...], form: Format, section: str, change: dict[str, int]
) -> None:
    forged = Forgery(example("x86_64", *macros))
    forged.set_section(forged.index(section), **change)

    assert unfamiliar(forged.done(), form)


def test_two_tables_of_one_name_are_not_chosen_from() -> None:
    forged = Forgery(example("x86_64", *KPATCH_BUILD))
    table = forged.index(".kpatch.funcs")
    forged.set_section(forged.index(".kpatch.force"), sh_name=forged.section(table, "sh_name"))

    assert unfamiliar(forged.done(), Format.KPATCH_BUILD)


def test_an_object_with_the_same_callback_twice_does_not_load_and_is_not_told() -> None:
    forged = Forgery(example("x86_64", *KPATCH_BUILD))
    name = forged.content(".rela.kpatch.callbacks.post_patch")[24 + 16 : 24 + 24]
    forged.write(".rela.kpatch.callbacks.post_patch", 3 * 24 + 16, name)

    assert unfamiliar(forged.done(), Format.KPATCH_BUILD)


@pytest.mark.parametrize(
    ("macros", "form", "relocations"),
    [
        (KPATCH_BUILD, Format.KPATCH_BUILD, ".rela.kpatch.funcs"),
        (KPATCH_BUILD, Format.KPATCH_BUILD, ".rela.kpatch.callbacks.pre_patch"),
        (KLP_BUILD, Format.KLP_BUILD, ".rela__klp_objects"),
        (KLP_BUILD, Format.KLP_BUILD, ".rela__klp_funcs"),
    ],
)
def test_entries_without_their_pointers_are_not_told(macros: tuple[str, ...], form: Format, relocations: str) -> None:
    forged = Forgery(example("x86_64", *macros)).replace(relocations, b"")

    assert unfamiliar(forged.done(), form)


def test_more_functions_than_the_array_has_are_an_error() -> None:
    forged = Forgery(example("x86_64", *KLP_BUILD))
    forged.write("__klp_objects", 64 + 56, struct.pack("<I", 0xFFFFFFFF))

    with pytest.raises(ModuleFormatError, match="where section"):
        read(forged.done())


def test_no_more_entries_are_read_than_any_livepatch_has() -> None:
    forged = Forgery(example("x86_64", *KPATCH_BUILD))
    count = MOST_ENTRIES + 1
    relocations = forged.content(".rela.kpatch.funcs")[: 3 * 24]
    entries = (
        struct.pack("<Q", number * 56 + at) + relocations[index * 24 + 8 : index * 24 + 24]
        for number in range(count)
        for index, at in enumerate((0, 40, 48))
    )
    forged.replace(".kpatch.funcs", bytes(56 * count)).replace(".rela.kpatch.funcs", b"".join(entries))

    with pytest.raises(ModuleFormatError, match=f"more than {MOST_ENTRIES} entries"):
        read(forged.done())
