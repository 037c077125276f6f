# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are not what they say: one error each, which says what is wrong."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from klpd import module
from klpd.errors import ModuleFormatError, NotALivepatchError
from klpd.module.elf import MOST_SECTIONS
from klpd.module.image import MOST_RELOCATIONS, MOST_SYMBOLS
from klpd.module.modinfo import LARGEST_MODINFO
from klpd.module.structures import MOST_ENTRIES
from klpd.module.traces import MOST_TRACES
from tests.unit.module.compilers import example
from tests.unit.module.forgery import Forgery

if TYPE_CHECKING:
    from collections.abc import Callable

FAR: int = 1 << 63


def forged() -> Forgery:
    return Forgery(example())


def section(name: str, **fields: int) -> Forgery:
    file = forged()
    return file.set_section(file.index(name), **fields)


def with_modinfo(change: Callable[[bytes], bytes]) -> Forgery:
    file = forged()
    return file.replace(".modinfo", change(file.content(".modinfo")))


def named_like(name: str, other: str) -> Forgery:
    file = forged()
    return file.set_section(file.index(other), sh_name=file.section(file.index(name), "sh_name"))


def with_states(states: bytes) -> Forgery:
    """With these states at the end of .data."""
    file = forged()
    data, relocation = file.content(".data"), file.relocation(file.symbol("patch") + 16)
    file.write(".rela.data", relocation + 16, struct.pack("<Q", len(data)))
    return file.replace(".data", data + states)


BAD = {
    "empty": (b"", "not a kernel module: not an ELF file"),
    "text": (b"#!/bin/sh\n", "not a kernel module: not an ELF file"),
    "only the magic": (b"\x7fELF", "truncated: it has 4 bytes, and an ELF header 64"),
    "half": (example()[: len(example()) // 2], r"truncated: its section table ends at byte \d+, the file at \d+"),
    "32 bit": (b"\x7fELF\1\1\1" + bytes(57), "not a 64-bit ELF file"),
    "middle endian": (b"\x7fELF\2\3\1" + bytes(57), "neither little nor big endian: its EI_DATA is 3"),
    "program": (forged().set(e_type=2), "an ELF file, but no module: its type is ET_EXEC, not ET_REL"),
    "odd section headers": (
        forged().set(e_shentsize=32),
        "the entries of its section table have 32 bytes, not 64",
    ),
    "section table far away": (forged().set(e_shoff=FAR), r"truncated: its section table ends at byte \d{19}.*"),
    "no sections": (forged().set(e_shnum=0, e_shstrndx=0), "section 0 should hold the names of its 0 sections"),
    "too many sections": (
        forged().set(e_shnum=MOST_SECTIONS + 1),
        f"it has {MOST_SECTIONS + 1} sections, and more than {MOST_SECTIONS} are not read",
    ),
    "names elsewhere": (forged().set(e_shstrndx=999), r"section 999 should hold the names of its \d+ sections"),
    "name outside": (section(".text", sh_name=1 << 31), r"section \d+ has its name outside the table of names"),
    "no modinfo": (named_like(".text", ".modinfo"), r"an ELF file, but no module: it has no section \.modinfo"),
    "two modinfos": (
        named_like(".modinfo", ".text"),
        r"it has 2 sections \.modinfo, and kernels differ in which they read",
    ),
    "modinfo not allocated": (
        section(".modinfo", sh_flags=0),
        r"its section \.modinfo is not of the kind that kernels load",
    ),
    "modinfo without content": (
        section(".modinfo", sh_type=8),
        r"its section \.modinfo is not of the kind that kernels load",
    ),
    "modinfo outside": (
        section(".modinfo", sh_offset=FAR),
        r"truncated: section \d+ ends at byte \d+, the file at \d+",
    ),
    "modinfo without an end": (with_modinfo(lambda old: old + b"x=y"), r"its \.modinfo does not end with a NUL"),
    "huge modinfo": (
        with_modinfo(lambda old: old + bytes(LARGEST_MODINFO)),
        rf"its \.modinfo has \d+ bytes, and more than {LARGEST_MODINFO} are not read",
    ),
    "no name": (
        with_modinfo(lambda old: old.replace(b"\0name=", b"\0eman=").removeprefix(b"name=example\0")),
        r"its \.modinfo does not say the module's name",
    ),
    "another name": (
        with_modinfo(lambda old: old.replace(b"name=example", b"name=sampler")),
        r"its \.modinfo calls it sampler, its struct module example",
    ),
    "no struct module": (
        named_like(".text", ".gnu.linkonce.this_module"),
        r"it has 0 sections \.gnu\.linkonce\.this_module, not one",
    ),
    "two struct modules": (
        named_like(".gnu.linkonce.this_module", ".comment"),
        r"it has 2 sections \.gnu\.linkonce\.this_module, not one",
    ),
    "no symbols": (section(".symtab", sh_type=1), "it has 0 symbol tables, not one"),
    "too many symbols": (
        section(".symtab", sh_size=24 * (MOST_SYMBOLS + 1)),
        f"it has {MOST_SYMBOLS + 1} symbols, and more than {MOST_SYMBOLS} are not read",
    ),
    "symbols outside": (section(".symtab", sh_offset=FAR), r"truncated: section \d+ ends at byte .*"),
    "few symbols": (section(".symtab", sh_size=24), r"a relocation names symbol \d+, which is not there"),
    "relocations outside": (section(".rela.data", sh_offset=FAR), r"truncated: section \d+ ends at byte .*"),
    "too many relocations": (
        forged().replace(".rela.data", bytes(24 * (MOST_RELOCATIONS + 1))),
        f"its data has more than {MOST_RELOCATIONS} relocations, which are not read",
    ),
    "relocations on top of each other": (
        forged().replace(".rela.data", forged().content(".rela.data") * 2),
        r"two relocations change section \d+ at byte \d+",
    ),
    "too much code that leads to data": (
        forged().replace(".rela.text", forged().content(".rela.text") * (MOST_TRACES + 1)),
        f"its code leads to its data in more than {MOST_TRACES} places, which are not read",
    ),
    "little data": (section(".data", sh_size=40), r"a pointer in section \d+ leads out of section \d+"),
    "states without an end": (with_states(struct.pack("<QQQ", 1, 1, 0)), r"its data goes on where section \d+ ends"),
    "too many states": (
        with_states(struct.pack("<QQQ", 1, 1, 0) * MOST_ENTRIES),
        f"its klp_patch has more than {MOST_ENTRIES} entries, which are not read",
    ),
    "data that is not there": (section(".data", sh_offset=FAR), r"truncated: section \d+ ends at byte .*"),
    "name without an end": (
        section(".rodata.str1.1", sh_size=len(forged().content(".rodata.str1.1")) - 1),
        r"a name in section \d+ does not end within 512 bytes",
    ),
}


@pytest.mark.parametrize(("file", "message"), BAD.values(), ids=BAD.keys())
def test_the_error_says_what_is_wrong(file: Forgery | bytes, message: str) -> None:
    data = file if isinstance(file, bytes) else file.done()

    with pytest.raises(ModuleFormatError, match=rf"^bad\.ko: {message}$"):
        module.read_livepatch(data, file="bad.ko")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "\x1b[31m", "x" * 56], ids=repr)
def test_a_name_that_no_module_can_have_is_refused(name: str) -> None:
    file = with_modinfo(lambda old: old.replace(b"name=example", b"name=" + name.encode()))

    with pytest.raises(ModuleFormatError, match="says a name that no module can have"):
        module.read_livepatch(file.done(), file="bad.ko")


def test_a_tag_has_an_equals_sign() -> None:
    file = with_modinfo(lambda old: old.replace(b"livepatch=Y", b"livepatch\0Y"))

    with pytest.raises(NotALivepatchError):
        module.read_livepatch(file.done(), file="ordinary.ko")


def test_a_symbol_in_a_section_that_is_not_there() -> None:
    file = forged()
    symbols = bytearray(file.content(".symtab"))
    for at in range(0, len(symbols), 24):
        if struct.unpack_from("<H", symbols, at + 6)[0] == file.index(".data"):
            struct.pack_into("<H", symbols, at + 6, 999)

    with pytest.raises(ModuleFormatError, match="a symbol is in section 999, and there are"):
        module.read_livepatch(file.replace(".symtab", bytes(symbols)).done(), file="bad.ko")
