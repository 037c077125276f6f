# SPDX-License-Identifier: GPL-2.0-or-later
"""The data of a module as it will be in memory, as far as its file tells: numbers, strings, and where pointers point.

In a module file a pointer is nothing but a relocation, which names a symbol and a distance from it.  The relocations
of a section are read when they are first asked for.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from klpd.errors import ModuleFormatError
from klpd.module.elf import SHF_ALLOC, SHF_EXECINSTR, SHF_WRITE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.module.elf import Elf, Section

MOST_RELOCATIONS: Final = 1 << 17
"""Of all sections that are looked at.  One costs some 150 bytes of memory."""
MOST_SYMBOLS: Final = 1 << 17
LONGEST_STRING: Final = 512
"""KSYM_NAME_LEN (include/linux/kallsyms.h), which has grown to this."""

# Only these make a pointer: arch/*/kernel/module.c.
_POINTER: Final = {
    "EM_X86_64": 1,  # R_X86_64_64
    "EM_AARCH64": 257,  # R_AARCH64_ABS64
    "EM_PPC64": 38,  # R_PPC64_ADDR64
    "EM_S390": 22,  # R_390_64
}
_WIDEST: Final = 8
_OUTSIDE: Final = 0  # SHN_UNDEF
_SHN_LORESERVE: Final = 0xFF00
_STT_OBJECT: Final = 1


@dataclass(frozen=True, slots=True)
class Place:
    """A byte in a section."""

    section: int
    offset: int

    def __add__(self, distance: int) -> Place:
        return Place(self.section, self.offset + distance)


class OutsideError(ModuleFormatError):
    """A structure or a string goes on where its section ends."""


class Image:
    """The data of a module.

    Its methods raise ModuleFormatError for what is not in the file, contradicts itself, or is over a bound.
    """

    def __init__(self, elf: Elf) -> None:
        self._elf = elf
        self._relocation = struct.Struct(f"{elf.order}QQq")
        self._symbol = struct.Struct(f"{elf.order}IBBHQQ")
        self._symbol_names = _OUTSIDE
        self._symbols = self._symbol_table()
        self._tables: dict[int, list[Section]] = {}
        for section in elf.sections:
            if section.type == "SHT_RELA":
                self._tables.setdefault(section.info, []).append(section)
        self._relocations: dict[int, dict[int, tuple[int, int]]] = {}
        self._relocations_left = MOST_RELOCATIONS
        self._sizes: dict[tuple[int, int], int] | None = None
        self._variables: list[tuple[int, int]] | None = None
        self._put: dict[Place, int] = {}

    @property
    def order(self) -> str:
        """The byte order, as `struct` writes it."""
        return self._elf.order

    def put(self, place: Place, content: bytes) -> None:
        """Have other bytes at a place from now on."""
        self._put.update({place + at: byte for at, byte in enumerate(content)})

    def pointers_to(self, wanted: Place) -> Iterator[Place]:
        """The places in initialised, writable data that will point to `wanted`."""
        flags = SHF_ALLOC | SHF_WRITE
        addends: dict[int, int | None] = {}
        for section in self._elf.sections:
            if section.type == "SHT_PROGBITS" and section.flags & (flags | SHF_EXECINSTR) == flags:
                for offset, info, addend in self._entries(section.index):
                    if info not in addends:
                        where, value = self._symbol_of(info)
                        addends[info] = wanted.offset - value if where == wanted.section else None
                    if addends[info] == addend:
                        yield Place(section.index, offset)

    def leading_from(self, section: int) -> Iterator[tuple[int, int, Place]]:
        """What leads from a section into writable data, by relocations of any kind: where it is, its kind, and where it
        leads to but for what that kind adds to it.
        """
        symbols: dict[int, Place | None] = {}
        for table in self._tables.get(section, ()):
            content = self._elf.content(table)
            whole = len(content) // self._relocation.size * self._relocation.size
            for offset, info, addend in self._relocation.iter_unpack(content[:whole]):
                symbol = info >> 32
                if symbol not in symbols:
                    index, value = self._symbol_at(symbol)
                    flags = 0 if index == _OUTSIDE else self._section(index).flags
                    symbols[symbol] = Place(index, value) if flags & SHF_WRITE else None
                place = symbols[symbol]
                if place is not None:
                    yield offset, info & 0xFFFFFFFF, place + addend

    def target(self, pointer: Place) -> Place | None:
        """Where the pointer at a place will point; None if no relocation makes one there, or it leaves the module."""
        relocation = self._relocations_of(pointer.section).get(pointer.offset)
        if relocation is None:
            return None
        info, addend = relocation
        index, value = self._symbol_of(info)
        if index == _OUTSIDE:
            return None
        section, offset = self._section(index), value + addend
        if not 0 <= offset <= section.size:
            raise ModuleFormatError(f"a pointer in section {pointer.section} leads out of section {index}")
        return Place(index, offset)

    def imported(self, pointer: Place) -> str:
        """The name of the symbol of others that the pointer at a place will point to; empty where it does not."""
        relocation = self._relocations_of(pointer.section).get(pointer.offset)
        if relocation is None or relocation[0] & 0xFFFFFFFF != _POINTER.get(self._elf.machine) or relocation[1] != 0:
            return ""
        index = relocation[0] >> 32
        if self._symbol_at(index)[0] != _OUTSIDE:
            return ""
        name_at = self._symbol.unpack_from(self._symbols, index * self._symbol.size)[0]
        return self.string(Place(self._symbol_names, name_at))

    def is_relocated(self, place: Place, size: int) -> bool:
        """Whether a relocation, of whatever kind, may change any of `size` bytes."""
        relocations = self._relocations_of(place.section)
        return any(offset in relocations for offset in range(place.offset - _WIDEST + 1, place.offset + size))

    def number(self, place: Place, size: int) -> int | None:
        """The unsigned number of `size` bytes at a place; None if relocations make it something else."""
        section = self._section(place.section)
        start, end = self._elf.extent(section)
        at = start + place.offset
        if place.offset < 0 or at + size > end:
            raise OutsideError(f"its data goes on where section {section.index} ends")
        if self.is_relocated(place, size):
            return None
        content = self._elf.data[at : at + size]
        if self._put:
            content = bytes(self._put.get(place + each, byte) for each, byte in enumerate(content))
        return int.from_bytes(content, "little" if self._elf.order == "<" else "big")

    def string(self, place: Place) -> str:
        """The string that begins at a place."""
        start, end = self._elf.extent(self._section(place.section))
        at = start + place.offset
        stop = self._elf.data.find(b"\0", at, min(at + LONGEST_STRING, end)) if place.offset >= 0 else -1
        if stop == -1:
            raise OutsideError(f"a name in section {place.section} does not end within {LONGEST_STRING} bytes")
        return self._elf.data[at:stop].decode("utf-8", "backslashreplace")

    def is_data(self, place: Place) -> bool:
        """Whether a place is in data that the file has."""
        section = self._section(place.section)
        return section.type == "SHT_PROGBITS" and section.flags & (SHF_ALLOC | SHF_EXECINSTR) == SHF_ALLOC

    def is_zeros(self, place: Place) -> bool:
        """Whether a place is in data that is zeros at first, of which the file has nothing."""
        return self._section(place.section).type == "SHT_NOBITS"

    def is_code(self, place: Place) -> bool:
        """Whether a place is in code."""
        return bool(self._section(place.section).flags & SHF_EXECINSTR)

    def size_of(self, place: Place) -> int | None:
        """The size of the variable that begins at a place, as the symbols tell it; None if they do not."""
        return self._variable_sizes().get((place.section, place.offset))

    def is_inside(self, place: Place) -> bool:
        """Whether the symbols tell of a variable that begins before a place and ends behind it."""
        return self._end_of(bisect_left(self._sorted_variables(), (place.section, place.offset)), place) is not None

    def end_of(self, place: Place) -> int | None:
        """Where the variable ends that a place is in, as an offset in its section, as the symbols tell it."""
        return self._end_of(bisect_right(self._sorted_variables(), (place.section, place.offset)), place)

    def _end_of(self, following: int, place: Place) -> int | None:
        if following == 0:
            return None
        section, offset = self._sorted_variables()[following - 1]
        end = offset + self._variable_sizes()[section, offset]
        return end if section == place.section and place.offset < end else None

    def _sorted_variables(self) -> list[tuple[int, int]]:
        if self._variables is None:
            self._variables = sorted(self._variable_sizes())
        return self._variables

    def _variable_sizes(self) -> dict[tuple[int, int], int]:
        if self._sizes is None:
            self._sizes = {
                (section, value): size
                for _, info, _, section, value, size in self._symbol.iter_unpack(self._symbols)
                if info & 0xF == _STT_OBJECT and size
            }
        return self._sizes

    def _section(self, index: int) -> Section:
        if index >= len(self._elf.sections):
            raise ModuleFormatError(f"a symbol is in section {index}, and there are {len(self._elf.sections)}")
        return self._elf.sections[index]

    def _symbol_table(self) -> memoryview:
        tables = [section for section in self._elf.sections if section.type == "SHT_SYMTAB"]
        if len(tables) != 1:
            raise ModuleFormatError(f"it has {len(tables)} symbol tables, not one")
        count = tables[0].size // self._symbol.size
        if count > MOST_SYMBOLS:
            raise ModuleFormatError(f"it has {count} symbols, and more than {MOST_SYMBOLS} are not read")
        self._symbol_names = tables[0].link
        return self._elf.content(tables[0])[: count * self._symbol.size]

    def _symbol_of(self, info: int) -> tuple[int, int]:
        """Section and offset of the symbol that a relocation makes a pointer from.

        The section is _OUTSIDE where the relocation is of another kind or the symbol is not in this module.
        """
        if info & 0xFFFFFFFF != _POINTER.get(self._elf.machine):
            return _OUTSIDE, 0
        return self._symbol_at(info >> 32)

    def _symbol_at(self, index: int) -> tuple[int, int]:
        """Section and offset of a symbol; the section is _OUTSIDE where it is not in this module."""
        if (index + 1) * self._symbol.size > len(self._symbols):
            raise ModuleFormatError(f"a relocation names symbol {index}, which is not there")
        _, _, _, section, value, _ = self._symbol.unpack_from(self._symbols, index * self._symbol.size)
        return (_OUTSIDE, 0) if section >= _SHN_LORESERVE else (section, value)

    def _relocations_of(self, index: int) -> dict[int, tuple[int, int]]:
        """Offset in section `index` -> info and addend of the relocation that changes what is there."""
        if index not in self._relocations:
            found: dict[int, tuple[int, int]] = {}
            for offset, info, addend in self._entries(index):
                if offset in found:
                    raise ModuleFormatError(f"two relocations change section {index} at byte {offset}")
                found[offset] = info, addend
            self._relocations[index] = found
        return self._relocations[index]

    def _entries(self, index: int) -> Iterator[tuple[int, int, int]]:
        """Offset, info and addend of each relocation that changes section `index`."""
        for table in self._tables.get(index, ()):
            content = self._elf.content(table)
            count = len(content) // self._relocation.size
            self._relocations_left -= count
            if self._relocations_left < 0:
                raise ModuleFormatError(f"its data has more than {MOST_RELOCATIONS} relocations, which are not read")
            yield from self._relocation.iter_unpack(content[: count * self._relocation.size])
