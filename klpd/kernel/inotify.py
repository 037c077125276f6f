# SPDX-License-Identifier: GPL-2.0-or-later
"""inotify(7), for the one thing that klpd asks of it: which directories appear in those it watches, and which go."""

from __future__ import annotations

import ctypes
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from klpd.errors import KernelError

# include/uapi/linux/inotify.h
IN_CLOEXEC: Final = os.O_CLOEXEC
IN_NONBLOCK: Final = os.O_NONBLOCK
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_Q_OVERFLOW: Final = 0x4000
IN_IGNORED: Final = 0x8000
IN_ONLYDIR: Final = 0x01000000
IN_DONT_FOLLOW: Final = 0x02000000
IN_ISDIR: Final = 0x40000000
_EVENT: Final = struct.Struct("=iIII")  # struct inotify_event, before its name
_BUFFER: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class News:
    """`found`: directories that appeared.  `gone`: added ones that are no more.  `lost`: there may be others."""

    found: tuple[Path, ...] = ()
    gone: tuple[Path, ...] = ()
    lost: bool = False


class NewDirectories:
    """Tells of directories that are made in, or moved into, the directories that are `add`ed.

    Raises KernelError (EMFILE: /proc/sys/fs/inotify/max_user_instances).
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = int(self._libc.inotify_init1(IN_CLOEXEC | IN_NONBLOCK))
        if self._fd < 0:
            raise KernelError("inotify_init1", ctypes.get_errno())
        self._folders: dict[int, Path] = {}

    def fileno(self) -> int:
        """Readable when there is something to `read`."""
        return self._fd

    def add(self, folder: Path) -> None:
        """Tell of what appears in `folder`, not of what appears below that.

        Raises KernelError: ENOENT, ENOTDIR, ENOSPC (/proc/sys/fs/inotify/max_user_watches).
        """
        mask = IN_CREATE | IN_MOVED_TO | IN_ONLYDIR | IN_DONT_FOLLOW
        watch = int(self._libc.inotify_add_watch(self._fd, ctypes.c_char_p(os.fsencode(folder)), ctypes.c_uint32(mask)))
        if watch < 0:
            raise KernelError(f"inotify_add_watch on {folder}", ctypes.get_errno())
        self._folders[watch] = folder

    def remove(self, folder: Path) -> None:
        """Take back `add`."""
        for watch in [each for each, path in self._folders.items() if path == folder]:
            del self._folders[watch]
            # It fails where the directory is gone, and the watch with it.
            self._libc.inotify_rm_watch(self._fd, ctypes.c_int(watch))

    @property
    def folders(self) -> set[Path]:
        """The directories that were added and are still there."""
        return set(self._folders.values())

    def read(self) -> News:
        """What has happened since it was last read."""
        try:
            data = os.read(self._fd, _BUFFER)
        except BlockingIOError:
            return News()
        found, gone, lost, at = [], [], False, 0
        while at < len(data):
            watch, mask, _cookie, length = _EVENT.unpack_from(data, at)
            at += _EVENT.size
            name = data[at : at + length].rstrip(b"\0")
            at += length
            if mask & IN_Q_OVERFLOW:
                lost = True
            elif watch not in self._folders:
                continue  # it was removed meanwhile
            elif mask & IN_IGNORED:
                gone.append(self._folders.pop(watch))
            elif mask & IN_ISDIR:
                found.append(self._folders[watch] / os.fsdecode(name))
        return News(tuple(found), tuple(gone), lost)

    def close(self) -> None:
        os.close(self._fd)
