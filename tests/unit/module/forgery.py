# SPDX-License-Identifier: GPL-2.0-or-later
"""Module files with something wrong in them."""

from __future__ import annotations

import struct
from typing import Final

_SHOFF: Final = 40
_SECTION_SIZE: Final = 64
HEADER: Final = {
    "e_type": (16, "H"),
    "e_machine": (18, "H"),
    "e_shoff": (_SHOFF, "Q"),
    "e_shentsize": (58, "H"),
    "e_shnum": (60, "H"),
    "e_shstrndx": (62, "H"),
}
SECTION: Final = {
    "sh_name": (0, "I"),
    "sh_type": (4, "I"),
    "sh_flags": (8, "Q"),
    "sh_offset": (24, "Q"),
    "sh_size": (32, "Q"),
    "sh_link": (40, "I"),
    "sh_info": (44, "I"),
}


class Forgery:
    """A little endian module that can be changed; its own small reader of ELF finds what is to be changed."""

    def __init__(self, module: bytes) -> None:
        self.data = bytearray(module)

    def get(self, field: str) -> int:
        at, form = HEADER[field]
        return int(struct.unpack_from(f"<{form}", self.data, at)[0])

    def set(self, **fields: int) -> Forgery:
        """Change members of the ELF header."""
        for field, value in fields.items():
            at, form = HEADER[field]
            struct.pack_into(f"<{form}", self.data, at, value)
        return self

    def section(self, index: int, field: str) -> int:
        at, form = SECTION[field]
        return int(struct.unpack_from(f"<{form}", self.data, self._at(index) + at)[0])

    def set_section(self, index: int, **fields: int) -> Forgery:
        """Change members of a section header."""
        for field, value in fields.items():
            at, form = SECTION[field]
            struct.pack_into(f"<{form}", self.data, self._at(index) + at, value)
        return self

    def index(self, name: str) -> int:
        """The section of that name."""
        names = self.section(self.get("e_shstrndx"), "sh_offset")
        wanted = name.encode() + b"\0"
        return next(
            index
            for index in range(self.get("e_shnum"))
            if self.data.startswith(wanted, names + self.section(index, "sh_name"))
        )

    def content(self, name: str) -> bytes:
        start, size = (self.section(self.index(name), field) for field in ("sh_offset", "sh_size"))
        return bytes(self.data[start : start + size])

    def write(self, name: str, at: int, content: bytes) -> Forgery:
        """Change bytes of a section."""
        start = self.section(self.index(name), "sh_offset") + at
        self.data[start : start + len(content)] = content
        return self

    def replace(self, name: str, content: bytes) -> Forgery:
        """Give a section another content, put at the end of the file."""
        self.data += bytes(-len(self.data) % 16)
        self.set_section(self.index(name), sh_offset=len(self.data), sh_size=len(content))
        self.data += content
        return self

    def add_tag(self, tag: bytes) -> Forgery:
        """Add to .modinfo."""
        return self.replace(".modinfo", self.content(".modinfo") + tag + b"\0")

    def symbol(self, name: str) -> int:
        """The value of a symbol."""
        names, symbols = self.content(".strtab"), self.content(".symtab")
        wanted = name.encode() + b"\0"
        return next(
            int(value)
            for at, _, _, _, value, _ in struct.iter_unpack("<IBBHQQ", symbols)
            if names.startswith(wanted, at)
        )

    def resize_symbol(self, name: str, size: int) -> Forgery:
        """Have a symbol say that it is of another size."""
        names, symbols = self.content(".strtab"), self.content(".symtab")
        wanted = name.encode() + b"\0"
        entries = enumerate(struct.iter_unpack("<IBBHQQ", symbols))
        number = next(number for number, (at, *_) in entries if names.startswith(wanted, at))
        return self.write(".symtab", number * 24 + 16, struct.pack("<Q", size))

    def relocation(self, offset: int) -> int:
        """Where in .rela.data the relocation is that makes the pointer at an offset in .data."""
        entries = enumerate(struct.iter_unpack("<QQq", self.content(".rela.data")))
        return next(number * 24 for number, (at, _, _) in entries if at == offset)

    def done(self) -> bytes:
        return bytes(self.data)

    def _at(self, index: int) -> int:
        return self.get("e_shoff") + index * _SECTION_SIZE
