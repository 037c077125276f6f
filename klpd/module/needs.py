# SPDX-License-Identifier: GPL-2.0-or-later
"""The symbols of others that a livepatch's relocations need, and that the kernel looks up when their object is there.

Documentation/livepatch/module-elf-format.rst: a section `.klp.rela.OBJECT.SECTION`, with a flag of its own, has the
relocations that are done when OBJECT is there, and each of these names a symbol `.klp.sym.OBJECT.NAME,SYMPOS`.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final

from klpd.errors import ModuleFormatError
from klpd.model import Needed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.module.elf import Elf, Section

MOST_NEEDED: Final = 1 << 14
"""Symbols, each counted once for each object whose relocations need it."""
_MOST_RELOCATIONS: Final = 1 << 18

# include/uapi/linux/elf.h and include/linux/livepatch.h
_SHF_RELA_LIVEPATCH: Final = 0x00100000
_SHN_LIVEPATCH: Final = 0xFF20
# The formats of klp_apply_section_relocs and klp_resolve_symbols (kernel/livepatch/core.c), with the lengths there.
_SECTION: Final = re.compile(rb"\.klp\.rela\.([^.]{1,55})")
_SYMBOL: Final = re.compile(rb"\.klp\.sym\.([^.]{1,55})\.([^,]{1,511}),\+?([0-9]{1,19})")
_LONGEST: Final = 600
_RELOCATION_SIZE: Final = 24


def read_needs(elf: Elf) -> tuple[Needed, ...]:
    """The symbols, in order.  What the kernel would not understand of them is left out: it is for it to refuse.

    Raises ModuleFormatError where there are too many of them, or they lie outside the file.
    """
    found: set[Needed] = set()
    names: dict[int, tuple[str, str, int] | None] = {}
    left = _MOST_RELOCATIONS
    for section in elf.sections:
        if section.type != "SHT_RELA" or not section.flags & _SHF_RELA_LIVEPATCH:
            continue
        match = _SECTION.match(elf.name_of(section))
        left -= section.size // _RELOCATION_SIZE
        if match is None:
            continue
        if left < 0:
            raise ModuleFormatError(f"it has more than {_MOST_RELOCATIONS} livepatch relocations, which are not read")
        by = _text(match[1])
        for index in _symbols_of(elf, section):
            if index not in names:
                names[index] = _name_of(elf, section, index)
            name = names[index]
            if name is not None:
                found.add(Needed(by, *name))
        if len(found) > MOST_NEEDED:
            raise ModuleFormatError(f"its relocations need more than {MOST_NEEDED} symbols, which are not read")
    return tuple(sorted(found))


def _symbols_of(elf: Elf, section: Section) -> Iterator[int]:
    content = elf.content(section)
    whole = len(content) // _RELOCATION_SIZE * _RELOCATION_SIZE
    indices = {info >> 32 for _offset, info, _addend in struct.iter_unpack(f"{elf.order}QQq", content[:whole])}
    yield from sorted(indices)


def _name_of(elf: Elf, section: Section, index: int) -> tuple[str, str, int] | None:
    """Object, name and position of a symbol of the table that a section of relocations goes by."""
    symbols = _section(elf, section.link)
    entry = struct.Struct(f"{elf.order}IBBHQQ")
    content = elf.content(symbols)
    if (index + 1) * entry.size > len(content):
        raise ModuleFormatError(f"a livepatch relocation names symbol {index}, which is not there")
    name_at, _info, _other, where, _value, _size = entry.unpack_from(content, index * entry.size)
    if where != _SHN_LIVEPATCH:
        return None
    start, end = elf.extent(_section(elf, symbols.link))
    at = min(start + name_at, end)
    stop = elf.data.find(b"\0", at, min(at + _LONGEST, end))
    match = None if stop < 0 else _SYMBOL.fullmatch(elf.data[at:stop])
    return None if match is None else (_text(match[1]), _text(match[2]), int(match[3]))


def _section(elf: Elf, index: int) -> Section:
    if index >= len(elf.sections):
        raise ModuleFormatError(f"a section is linked to section {index}, and there are {len(elf.sections)}")
    return elf.sections[index]


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
