# SPDX-License-Identifier: GPL-2.0-or-later
"""The header and the section table of a 64-bit relocatable ELF file, and the bytes of its sections.

pyelftools reads the header and the section table, each entry from bytes that are known to be there.  Beyond that it is
no help with hostile files: its sections follow links of their own accord (a table linked to itself is followed for
ever) and hand out as many zeros as one without content claims to have, its notes are as long as they say, and its
symbols and relocations take ten times as long as `struct` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

from klpd.errors import ModuleFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from elftools.construct import Container

MOST_SECTIONS: Final = 8192
"""Debian's modules have up to 93; those that kpatch-build makes have a few for each function."""

# include/uapi/linux/elf.h
SHF_WRITE: Final = 1
SHF_ALLOC: Final = 2
SHF_EXECINSTR: Final = 4

_HEADER_SIZE: Final = 64
_SECTION_SIZE: Final = 64
_EI_CLASS: Final = 4
_EI_DATA: Final = 5

ByteOrder = Literal["<", ">"]


@dataclass(frozen=True, slots=True)
class Section:
    """An entry of the section table: its sh_* members.  A type that pyelftools has no name for stays a number."""

    index: int
    name_at: int
    type: str | int
    flags: int
    offset: int
    size: int
    link: int
    info: int


@dataclass(frozen=True, slots=True)
class Elf:
    """A module file: its bytes, its byte order (as `struct` writes it), its machine (EM_...) and its sections."""

    data: bytes
    order: ByteOrder
    machine: str
    sections: tuple[Section, ...]
    names: Section

    @classmethod
    def read(cls, data: bytes) -> Self:
        """The file with these bytes.

        Raises ModuleFormatError for what is no relocatable 64-bit ELF file, or is shorter than its header says.
        """
        from elftools.elf.structs import ELFStructs

        little_endian = _is_little_endian(data)
        structs = ELFStructs(little_endian=little_endian, elfclass=64)
        structs.create_basic_structs()
        header = structs.Elf_Ehdr.parse(data[:_HEADER_SIZE])
        if header["e_type"] != "ET_REL":
            raise ModuleFormatError(f"an ELF file, but no module: its type is {header['e_type']}, not ET_REL")
        start, count, names = (_number(header, name) for name in ("e_shoff", "e_shnum", "e_shstrndx"))
        if header["e_shentsize"] != _SECTION_SIZE:
            raise ModuleFormatError(f"the entries of its section table have {header['e_shentsize']} bytes, not 64")
        if count > MOST_SECTIONS:
            raise ModuleFormatError(f"it has {count} sections, and more than {MOST_SECTIONS} are not read")
        if names >= count:
            raise ModuleFormatError(f"section {names} should hold the names of its {count} sections")
        end = start + count * _SECTION_SIZE
        if end > len(data):
            raise ModuleFormatError(f"truncated: its section table ends at byte {end}, the file at {len(data)}")
        # Without the machine: the types of sections that depend on it do not matter here.
        structs.create_advanced_structs(header["e_type"])
        sections = tuple(
            _section(index, structs.Elf_Shdr.parse(data[at : at + _SECTION_SIZE]))
            for index, at in enumerate(range(start, end, _SECTION_SIZE))
        )
        elf = cls(data, "<" if little_endian else ">", str(header["e_machine"]), sections, sections[names])
        elf.extent(elf.names)
        return elf

    def extent(self, section: Section) -> tuple[int, int]:
        """Where the content of `section` begins and ends in the file; a section of zeros (NOBITS) has none there.

        Raises ModuleFormatError where it would lie outside the file.
        """
        if section.type == "SHT_NOBITS":
            return 0, 0
        end = section.offset + section.size
        if end > len(self.data):
            raise ModuleFormatError(
                f"truncated: section {section.index} ends at byte {end}, the file at {len(self.data)}"
            )
        return section.offset, end

    def content(self, section: Section) -> memoryview:
        """The bytes of `section`, not copied.  Raises as `extent` does."""
        start, end = self.extent(section)
        return memoryview(self.data)[start:end]

    def is_named(self, section: Section, name: bytes) -> bool:
        """Whether `section` has this name.  Raises ModuleFormatError if its name lies outside the table of names."""
        if section.name_at >= self.names.size:
            raise ModuleFormatError(f"section {section.index} has its name outside the table of names")
        return self.data.startswith(name + b"\0", self.names.offset + section.name_at)

    def name_of(self, section: Section) -> bytes:
        """The name of `section`.  Raises as `is_named` does."""
        if section.name_at >= self.names.size:
            raise ModuleFormatError(f"section {section.index} has its name outside the table of names")
        start, end = self.extent(self.names)
        stop = self.data.find(b"\0", start + section.name_at, end)
        return self.data[start + section.name_at : end if stop < 0 else stop]

    def named(self, name: bytes) -> Iterator[Section]:
        """The sections that have this name.  Raises as `is_named` does."""
        return (section for section in self.sections if self.is_named(section, name))


def _is_little_endian(data: bytes) -> bool:
    if not data.startswith(b"\x7fELF"):
        raise ModuleFormatError("not a kernel module: not an ELF file")
    if len(data) < _HEADER_SIZE:
        raise ModuleFormatError(f"truncated: it has {len(data)} bytes, and an ELF header 64")
    if data[_EI_CLASS] != 2:
        raise ModuleFormatError("not a 64-bit ELF file")
    if data[_EI_DATA] not in (1, 2):
        raise ModuleFormatError(f"neither little nor big endian: its EI_DATA is {data[_EI_DATA]}")
    return data[_EI_DATA] == 1


def _section(index: int, entry: Container) -> Section:
    return Section(
        index,
        _number(entry, "sh_name"),
        entry["sh_type"],
        _number(entry, "sh_flags"),
        _number(entry, "sh_offset"),
        _number(entry, "sh_size"),
        _number(entry, "sh_link"),
        _number(entry, "sh_info"),
    )


def _number(entry: Container, name: str) -> int:
    return int(entry[name])
