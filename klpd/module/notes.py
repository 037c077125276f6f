# SPDX-License-Identifier: GPL-2.0-or-later
"""The build id, a note that the linker leaves: what ties a loaded module to its file (sysfs shows the same note)."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from klpd.errors import ModuleFormatError

if TYPE_CHECKING:
    from klpd.module.elf import Elf

LONGEST_BUILD_ID: Final = 64
"""In bytes; the linker makes 20 (SHA-1) if it is not told otherwise."""

_NT_GNU_BUILD_ID: Final = 3  # include/uapi/linux/elf.h


def read_build_id(elf: Elf) -> str | None:
    """The build id in hex, or None where the module has none.

    Raises ModuleFormatError where its note is not one whole note of that kind.
    """
    section = next(elf.named(b".note.gnu.build-id"), None)
    if section is None or section.size == 0:
        return None
    note = elf.content(section)
    header = struct.Struct(f"{elf.order}III4s")
    if len(note) < header.size:
        raise ModuleFormatError("its build id is truncated")
    name_size, size, kind, name = header.unpack_from(note)
    if (name_size, kind, name) != (4, _NT_GNU_BUILD_ID, b"GNU\0"):
        raise ModuleFormatError("its .note.gnu.build-id is no build id")
    if not 0 < size <= min(LONGEST_BUILD_ID, len(note) - header.size):
        raise ModuleFormatError(f"its build id claims to have {size} bytes")
    return note[header.size : header.size + size].hex()
