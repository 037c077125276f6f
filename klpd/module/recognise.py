# SPDX-License-Identifier: GPL-2.0-or-later
"""Is this a livepatch?  The answer of the kernel guard, found the way that it finds it (klpd/kernel/bpf/recognise.h).

What the guard lets pass must be what klpd calls ordinary, so both ask the same questions in the same order, and take
what they do not understand whole for something that may be a livepatch.  It has to be fast: each module that is opened
comes by here.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from typing import Final

_HEADER: Final = struct.Struct("=16sHHIQQQIHHHHHH")
_SECTION: Final = struct.Struct("=IIQQQQIIQQ")
_SHT_PROGBITS: Final = 1
_SHF_ALLOC: Final = 2


class Kind(StrEnum):
    """UNCLEAR: an ELF file that the guard does not understand whole, and treats as a livepatch."""

    NO_MODULE = "no module"
    ORDINARY = "ordinary module"
    LIVEPATCH = "livepatch"
    UNCLEAR = "unclear"


def recognise(data: bytes) -> Kind:
    """What the bytes of a file are to the guard, in the running machine's byte order.

    What is no ELF file is no module: the kernel takes nothing else, once decompressed (see compression.py).
    """
    if not data.startswith(b"\x7fELF"):
        return Kind.NO_MODULE
    if len(data) < _HEADER.size:
        return Kind.UNCLEAR
    *_, section_table, _, _, _, _, entry_size, count, names_index = _HEADER.unpack_from(data)
    if (
        entry_size != _SECTION.size
        or names_index >= count
        or not _within(section_table, count * _SECTION.size, len(data))
    ):
        return Kind.UNCLEAR
    names, names_size = _SECTION.unpack_from(data, section_table + names_index * _SECTION.size)[4:6]
    if not _within(names, names_size, len(data)):
        return Kind.UNCLEAR
    found: tuple[int, int] | None = None
    table = memoryview(data)[section_table : section_table + count * _SECTION.size]
    for name, kind, flags, _, offset, size, *_ in _SECTION.iter_unpack(table):
        if name >= names_size:
            return Kind.UNCLEAR
        if data.startswith(b".modinfo\0", names + name):
            if found is not None or kind != _SHT_PROGBITS or not flags & _SHF_ALLOC:
                return Kind.UNCLEAR
            found = offset, size
    if found is None or not _within(*found, len(data)):
        return Kind.UNCLEAR
    return _recognise_strings(data, *found)


def _recognise_strings(data: bytes, offset: int, size: int) -> Kind:
    end = offset + size
    if size == 0 or data[end - 1] != 0:
        return Kind.UNCLEAR
    tagged = data.startswith(b"livepatch=", offset, end) or data.find(b"\0livepatch=", offset, end) != -1
    return Kind.LIVEPATCH if tagged else Kind.ORDINARY


def _within(offset: int, length: int, size: int) -> bool:
    return offset + length <= size
