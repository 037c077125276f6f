# SPDX-License-Identifier: GPL-2.0-or-later
"""The build id, a note of the linker's: it ties a loaded module to its file, since sysfs shows the same note."""

from __future__ import annotations

import struct
from typing import Final

LONGEST_BUILD_ID: Final = 64
"""In bytes; the linker makes 20 (SHA-1) if it is not told otherwise."""

_NT_GNU_BUILD_ID: Final = 3  # include/uapi/linux/elf.h


def parse_build_id(note: bytes | memoryview, order: str) -> str:
    """The build id in hex, of a note in this byte order ("<", ">", or "=" for this machine's).

    Raises ValueError, with a sentence, where that is not one whole note of that kind.
    """
    header = struct.Struct(f"{order}III4s")
    if len(note) < header.size:
        raise ValueError("its build id is truncated")
    name_size, size, kind, name = header.unpack_from(note)
    if (name_size, kind, name) != (4, _NT_GNU_BUILD_ID, b"GNU\0"):
        raise ValueError("its .note.gnu.build-id is no build id")
    if not 0 < size <= min(LONGEST_BUILD_ID, len(note) - header.size):
        raise ValueError(f"its build id claims to have {size} bytes")
    return bytes(note[header.size : header.size + size]).hex()
