# SPDX-License-Identifier: GPL-2.0-or-later
"""The symbols that livepatch relocations need are read as the kernel reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klpd.errors import ModuleFormatError
from klpd.model import VMLINUX, Needed
from klpd.module.elf import Elf
from klpd.module.needs import read_needs
from tests.livepatches.build import build
from tests.livepatches.forge import needing

if TYPE_CHECKING:
    from collections.abc import Iterable


@pytest.fixture(scope="module")
def plain() -> bytes:
    return build()["klp_cmdline_v1"].read_bytes()


def having(data: bytes, needs: Iterable[Needed]) -> bytes:
    for each in needs:
        data = needing(data, each)
    return data


@pytest.mark.parametrize(
    "needs",
    [
        (),
        (Needed(VMLINUX, VMLINUX, "a"),),
        (Needed("one", "one", "a", 2), Needed("one", "two", "a.part.0", 1), Needed(VMLINUX, VMLINUX, "b")),
    ],
)
def test_each_symbol_is_told_with_its_object_and_whose_relocations_need_it(
    plain: bytes, needs: tuple[Needed, ...]
) -> None:
    assert read_needs(Elf.read(having(plain, needs))) == needs


def test_a_symbol_counts_once_however_many_relocations_need_it(plain: bytes) -> None:
    needed = Needed(VMLINUX, VMLINUX, "a")
    assert read_needs(Elf.read(having(plain, (needed, needed)))) == (needed,)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # klp_resolve_symbols refuses these: "has an incorrectly formatted name"
        (b".klp.sym.vmlinux.a,0\0", b".klp.sim.vmlinux.a,0\0"),
        (b".klp.sym.vmlinux.a,0\0", b".klp.sym.vmlinux.a,x\0"),
        (b".klp.sym.vmlinux.a,0\0", b".klp.sym.vmlinux.a;0\0"),
        # klp_apply_section_relocs: "has an incorrectly formatted name"
        (b".klp.rela.vmlinux..text\0", b".klp.real.vmlinux..text\0"),
    ],
)
def test_names_that_the_kernel_does_not_understand_tell_nothing(plain: bytes, old: bytes, new: bytes) -> None:
    data = having(plain, (Needed(VMLINUX, VMLINUX, "a"),))
    assert data.count(old) == 1
    assert read_needs(Elf.read(data.replace(old, new))) == ()


def test_a_symbol_that_is_not_there_is_an_error(plain: bytes) -> None:
    data = having(plain, (Needed(VMLINUX, VMLINUX, "a"),))
    elf = Elf.read(data)
    (section,) = (each for each in elf.sections if elf.name_of(each).startswith(b".klp.rela."))
    at = section.offset + 12
    with pytest.raises(ModuleFormatError, match=r"names symbol \d+, which is not there"):
        read_needs(Elf.read(data[:at] + b"\xff\xff\xff\x7f" + data[at + 4 :]))
