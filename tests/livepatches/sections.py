# SPDX-License-Identifier: GPL-2.0-or-later
"""The table of sections of a module file, as its makers of variants read and write it."""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Section:
    """An Elf64_Shdr, little endian."""

    layout: ClassVar[struct.Struct] = struct.Struct("<IIQQQQIIQQ")
    name: int
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry_size: int

    @classmethod
    def read_table(cls, module: bytes, start: int, count: int) -> list[Section]:
        """The table that begins at byte `start` of a module file."""
        return [cls(*cls.layout.unpack_from(module, start + at * cls.layout.size)) for at in range(count)]

    def pack(self) -> bytes:
        return self.layout.pack(*astuple(self))
