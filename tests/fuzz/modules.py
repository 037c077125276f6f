# SPDX-License-Identifier: GPL-2.0-or-later
"""Module files taken apart and put together again: sections that can be changed, added and dropped.

Nothing is checked: a file that lies is taken apart as far as it goes, and any sections make a file.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Literal, Self

_HEADER: Final = 64
_SHOFF: Final = 40
_SHNUM: Final = 60
_SECTION: Final = "IIQQQQIIQQ"
_SECTION_SIZE: Final = 64
_MOST_SECTIONS: Final = 256
"""Files with more are for tests of bounds, not to be changed here."""

SYMTAB: Final = 2
STRTAB: Final = 3
RELA: Final = 4
NOBITS: Final = 8

_READ: Final = (
    *(b".modinfo", b".gnu.linkonce.this_module", b".note.gnu.build-id"),
    *(b".data", b".rodata", b".bss", b".init.data", b".text", b".init.text"),
    *(b".kpatch.", b"__klp_", b".init.klp_"),
)
"""How the names of sections begin that tell something of a livepatch, or that such sections point to."""


@dataclass(slots=True)
class Section:
    """A section; it claims to be `excess` bytes larger than what the file has of it, as one of zeros does."""

    name: bytes
    type: int
    flags: int
    link: int
    info: int
    align: int
    entry: int
    content: bytes
    excess: int = 0


@dataclass(slots=True)
class Module:
    """A file: its ELF header, its sections, and what follows them, such as a signature.  `order` is `struct`'s."""

    header: bytes
    order: Literal["<", ">"]
    sections: list[Section]
    names: int
    tail: bytes

    @classmethod
    def of(cls, data: bytes) -> Self | None:
        """The module with these bytes; None where they are no ELF file with a section table."""
        if not data.startswith(b"\x7fELF") or len(data) < _HEADER:
            return None
        order: Literal["<", ">"] = ">" if data[5] == 2 else "<"
        (table,) = struct.unpack_from(f"{order}Q", data, _SHOFF)
        count, names = struct.unpack_from(f"{order}HH", data, _SHNUM)
        end = table + count * _SECTION_SIZE
        if not 0 < count <= _MOST_SECTIONS or names >= count or end > len(data):
            return None
        rows = list(struct.iter_unpack(f"{order}{_SECTION}", data[table:end]))
        strings = _content(data, rows[names])
        sections = []
        for row in rows:
            content = _content(data, row)
            end = max(end, row[4] + len(content) if content else 0)
            sections.append(
                Section(
                    name=strings[row[0] :].partition(b"\0")[0],
                    type=row[1],
                    flags=row[2],
                    link=row[6],
                    info=row[7],
                    align=row[8],
                    entry=row[9],
                    content=content,
                    excess=row[5] - len(content),
                )
            )
        return cls(data[:_HEADER], order, sections, names, data[end:])

    def done(self) -> bytes:
        """The file: the header, what the sections hold, their table, and what follows."""
        names = {name: at for at, name in _placed({each.name for each in self.sections})}
        self.sections[self.names].content = b"".join(name + b"\0" for name in names)
        data = bytearray(self.header)
        rows = []
        for each in self.sections:
            data += bytes(-len(data) % 8)
            size = max(len(each.content) + each.excess, 0) % (1 << 64)
            row = (names[each.name], each.type, each.flags, 0, len(data), size, each.link, each.info)
            rows.append(struct.pack(f"{self.order}{_SECTION}", *row, each.align, each.entry))
            data += each.content
        data += bytes(-len(data) % 8)
        struct.pack_into(f"{self.order}Q", data, _SHOFF, len(data))
        struct.pack_into(f"{self.order}HH", data, _SHNUM, len(self.sections), self.names)
        return b"".join((data, *rows, self.tail))

    def keep(self, wanted: set[int]) -> None:
        """Drop the sections but those with these numbers, and have all that names the others by number follow."""
        new = {old: number for number, old in enumerate(sorted(wanted))}
        symbol = struct.Struct(f"{self.order}IBBHQQ")
        for each in self.sections:
            each.link = new.get(each.link, 0)
            if each.type == RELA:
                each.info = new.get(each.info, 0)
            if each.type == SYMTAB:
                rows = symbol.iter_unpack(each.content[: len(each.content) // symbol.size * symbol.size])
                each.content = b"".join(
                    symbol.pack(*row[:3], row[3] if row[3] >= 0xFF00 else new.get(row[3], 0), *row[4:]) for row in rows
                )
        self.sections = [self.sections[old] for old in new]
        self.names = new[self.names]


def small(data: bytes) -> bytes:
    """A module without the sections that tell nothing of it as a livepatch; what is none comes back as it is."""
    module = Module.of(data)
    if module is None:
        return data
    read = {number for number, each in enumerate(module.sections) if each.name.startswith(_READ)}
    tables = {number for number, each in enumerate(module.sections) if each.type == RELA and each.info in read}
    symbols = {number for number, each in enumerate(module.sections) if each.type == SYMTAB}
    code = {number for number in tables if b"text" in module.sections[number].name}
    module.keep({0, module.names} | read | tables - code | symbols)
    return module.done()


def _placed(names: set[bytes]) -> list[tuple[int, bytes]]:
    placed, at = [], 0
    for name in sorted(names):
        placed.append((at, name))
        at += len(name) + 1
    return placed


def _content(data: bytes, row: tuple[int, ...]) -> bytes:
    return b"" if row[1] == NOBITS else data[row[4] : row[4] + row[5]]
