# SPDX-License-Identifier: GPL-2.0-or-later
"""Reading files whole, from descriptors that somebody else opened."""

from __future__ import annotations

import os
import stat
from typing import Final

from klpd.errors import ModuleFormatError

MODULE_SUFFIXES: Final = (".ko", ".ko.xz", ".ko.zst", ".ko.gz")
"""What the names of module files end in."""
LARGEST_MODULE: Final = 64 << 20
"""In bytes.  The kernel guard refuses what is larger, since it would have to digest it in one go."""
_CHUNK: Final = 1 << 20


def said_size(size: int) -> str:
    """A number of bytes, for messages."""
    return f"{size >> 20} MiB, which no livepatch is" if size == LARGEST_MODULE else f"{size >> 10} KiB"


def read_descriptor(fd: int, name: str, largest: int = LARGEST_MODULE) -> bytes:
    """The bytes of the regular file behind `fd`, wherever its offset is; `name` is for messages.

    Raises ModuleFormatError for anything but a regular file, for one over `largest`, and where reading fails.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        raise ModuleFormatError(f"{name}: not a regular file")
    if status.st_size > largest:
        raise ModuleFormatError(f"{name}: larger than {said_size(largest)}")
    try:
        return read_at_most(fd, status.st_size)
    except OSError as error:
        raise ModuleFormatError(f"{name}: cannot be read: {error.strerror}") from error


def read_at_most(fd: int, size: int) -> bytes:
    """The first `size` bytes of the regular file behind `fd`, or all where it has less.  Raises OSError."""
    parts, at = [], 0
    while at < size and (part := os.pread(fd, min(_CHUNK, size - at), at)):
        parts.append(part)
        at += len(part)
    return b"".join(parts)
