# SPDX-License-Identifier: GPL-2.0-or-later
"""Files and directories by their file handles, wherever they were moved to (name_to_handle_at(2)).

Not every file system can tell (overlayfs cannot, for example).
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_AT_EMPTY_PATH: Final = 0x1000
_LARGEST: Final = 128  # MAX_HANDLE_SZ


class _FileHandle(ctypes.Structure):
    """struct file_handle"""

    _fields_ = (
        ("handle_bytes", ctypes.c_uint),
        ("handle_type", ctypes.c_int),
        ("f_handle", ctypes.c_ubyte * _LARGEST),
    )


@dataclass(frozen=True, slots=True)
class Handle:
    """A file or directory, by whatever name it goes."""

    type: int
    data: bytes


def handle_of(fd: int) -> Handle | None:
    """The handle of an open file or directory (O_PATH will do); None where there is none to be had."""
    found = _FileHandle(handle_bytes=_LARGEST)
    mount = ctypes.c_int()
    if _libc().name_to_handle_at(fd, b"", ctypes.byref(found), ctypes.byref(mount), _AT_EMPTY_PATH) != 0:
        return None
    return Handle(found.handle_type, bytes(found.f_handle[: found.handle_bytes]))


def open_moved(handle: Handle, before: Path) -> int | None:
    """A descriptor (O_PATH) of a directory that was at `before` once; None if it is nowhere, or that cannot be told."""
    wanted = _FileHandle(handle_bytes=len(handle.data), handle_type=handle.type)
    wanted.f_handle[: len(handle.data)] = list(handle.data)
    for near in before.parents:  # a rename never leaves the mount: what was above it is on the same
        try:
            mount = os.open(near, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            fd = int(_libc().open_by_handle_at(mount, ctypes.byref(wanted), flags))
        finally:
            os.close(mount)
        return fd if fd >= 0 else None
    return None


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
