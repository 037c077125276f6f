# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to built modules that no compiler makes."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from tests.livepatches.sections import Section

if TYPE_CHECKING:
    from klpd.model import Needed

_VERMAGIC: Final = re.compile(rb"(?<=\0vermagic=)\d")
# include/linux/vermagic.h
_WITH_CHECKSUMS: Final = re.compile(rb"\0vermagic=[^\0]* modversions ")
# struct modversion_info (include/linux/module.h) of a symbol that every module has
_LAYOUT_CRC: Final = re.compile(rb".(?=.{7}module_layout\0)", re.DOTALL)

# elf(5), for 64-bit little-endian files; the rest is in Documentation/livepatch/module-elf-format.rst
_SECTION_TABLE_AT: Final = 40
_SECTION_COUNT_AT: Final = 60
_SHT_SYMTAB: Final = 2
_SHT_RELA: Final = 4
_SHF_ALLOC: Final = 2
_SHF_INFO_LINK: Final = 0x40
_SHF_RELA_LIVEPATCH: Final = 0x00100000
_SHN_LIVEPATCH: Final = 0xFF20
_POINTER: Final = 1  # R_X86_64_64
_STB_GLOBAL: Final = 1 << 4
_SYMBOL: Final = struct.Struct("<IBBHQQ")
_RELOCATION: Final = struct.Struct("<QQq")


def for_other_kernel(module: bytes) -> bytes:
    """The module as if built for another kernel: another release in its vermagic, of the same length, and another ABI.

    With CONFIG_MODVERSIONS, which Debian's kernels have left out since 7.x, the kernel passes over the release
    (kernel/module/version.c, same_magic) and relies on the ABI checksums.
    """
    changed, releases = _VERMAGIC.subn(b"0", module)
    changed, checksums = _LAYOUT_CRC.subn(lambda crc: bytes([crc[0][0] ^ 1]), changed)
    expected = int(_WITH_CHECKSUMS.search(module) is not None)
    if (releases, checksums) != (1, expected):
        raise ValueError(f"{releases} vermagic tags and {checksums} checksums of module_layout, not 1 and {expected}")
    return changed


def needing(module: bytes, needed: Needed) -> bytes:
    """The module with a livepatch relocation of its .text that needs a symbol, as what kpatch-build makes has many."""
    start, count, names_at = _sections_of(module)
    sections = Section.read_table(module, start, count)
    table = next(rank for rank, each in enumerate(sections) if each.type == _SHT_SYMTAB)
    code = _named(module, sections, names_at, b".text")
    out = bytearray(module)

    def grown(rank: int, more: bytes) -> int:
        """A section with more at its end, which is moved to that of the file; where the new part is in it."""
        old = sections[rank]
        out.extend(bytes(-len(out) % 8))
        sections[rank] = replace(old, offset=len(out), size=old.size + len(more))
        out.extend(module[old.offset : old.offset + old.size] + more)
        return old.size

    symbol = f".klp.sym.{needed.object}.{needed.name},{needed.sympos}\0".encode()
    symbol_name = grown(sections[table].link, symbol)
    index = grown(table, _SYMBOL.pack(symbol_name, _STB_GLOBAL, 0, _SHN_LIVEPATCH, 0, 0)) // _SYMBOL.size
    section_name = grown(names_at, f".klp.rela.{needed.by}..text\0".encode())
    out.extend(bytes(-len(out) % 8))
    relocation = _RELOCATION.pack(0, index << 32 | _POINTER, 0)
    flags = _SHF_ALLOC | _SHF_INFO_LINK | _SHF_RELA_LIVEPATCH
    sections.append(
        Section(section_name, _SHT_RELA, flags, 0, len(out), len(relocation), table, code, 8, _RELOCATION.size)
    )
    out.extend(relocation)
    struct.pack_into("<Q", out, _SECTION_TABLE_AT, len(out))
    struct.pack_into("<H", out, _SECTION_COUNT_AT, len(sections))
    out.extend(b"".join(each.pack() for each in sections))
    return bytes(out)


def _sections_of(module: bytes) -> tuple[int, int, int]:
    """Where the table of sections is, how many there are, and which has their names."""
    (start,) = struct.unpack_from("<Q", module, _SECTION_TABLE_AT)
    count, names = struct.unpack_from("<HH", module, _SECTION_COUNT_AT)
    return start, count, names


def _named(module: bytes, sections: list[Section], names: int, name: bytes) -> int:
    at = sections[names].offset
    return next(rank for rank, each in enumerate(sections) if module.startswith(name + b"\0", at + each.name))
