# SPDX-License-Identifier: GPL-2.0-or-later
"""inotify(7), for what klpd asks of it: what comes into, leaves and changes in the directories that it watches."""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from klpd.errors import KernelError

# include/uapi/linux/inotify.h
IN_CLOEXEC: Final = os.O_CLOEXEC
IN_NONBLOCK: Final = os.O_NONBLOCK
IN_MODIFY: Final = 0x2
IN_ATTRIB: Final = 0x4
IN_CLOSE_WRITE: Final = 0x8
IN_MOVED_FROM: Final = 0x40
IN_MOVED_TO: Final = 0x80
IN_CREATE: Final = 0x100
IN_DELETE: Final = 0x200
IN_Q_OVERFLOW: Final = 0x4000
IN_IGNORED: Final = 0x8000
IN_ONLYDIR: Final = 0x01000000
IN_MASK_ADD: Final = 0x20000000
IN_ISDIR: Final = 0x40000000
_EVENT: Final = struct.Struct("=iIII")  # struct inotify_event, before its name
_BUFFER: Final = 64 * 1024
_COME: Final = IN_CREATE | IN_MOVED_TO
_GO: Final = IN_MOVED_FROM | IN_DELETE


@dataclass(frozen=True, slots=True)
class News:
    """What has happened in the directories that are listened to.

    `found` are directories that appeared, `left` those that were renamed and are not there any more.  `gone` are the
    watches of those that do not exist (or are not mounted) any more.  `steps` are names that came or went in
    directories on the way to a root, links included.  `files`: one of the files that are asked for was written, came,
    went, or has another owner or mode.  `lost`: there may be more of everything.
    """

    found: tuple[Path, ...] = ()
    left: tuple[Path, ...] = ()
    gone: tuple[int, ...] = ()
    steps: tuple[Path, ...] = ()
    files: bool = False
    lost: bool = False


class WrittenFile:
    """Tells when a file is written, by the path's own mount or any other of the same file system.

    Of a sysctl, too, when that has taken effect (vfs_write in fs/read_write.c tells after it).  Each mount of procfs is
    a file system of its own, though.  Raises KernelError.
    """

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = int(libc.inotify_init1(IN_CLOEXEC | IN_NONBLOCK))
        if self._fd < 0:
            raise KernelError("inotify_init1", ctypes.get_errno())
        if libc.inotify_add_watch(self._fd, ctypes.c_char_p(os.fsencode(path)), ctypes.c_uint32(IN_MODIFY)) < 0:
            code = ctypes.get_errno()
            os.close(self._fd)
            raise KernelError(f"inotify_add_watch on {path}", code)

    def fileno(self) -> int:
        """Readable when it was written since it was last `read`."""
        return self._fd

    def read(self) -> None:
        """Note that it was written."""
        with suppress(BlockingIOError):
            os.read(self._fd, _BUFFER)


class NewDirectories:
    """Tells what happens in directories that are added, and to files there whose names end in `suffix`.

    Raises KernelError (EMFILE: /proc/sys/fs/inotify/max_user_instances).
    """

    def __init__(self, suffix: str) -> None:
        self._suffix = os.fsencode(suffix)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = int(self._libc.inotify_init1(IN_CLOEXEC | IN_NONBLOCK))
        if self._fd < 0:
            raise KernelError("inotify_init1", ctypes.get_errno())
        self._folders: dict[int, Path] = {}
        self._on_the_way: set[int] = set()

    def fileno(self) -> int:
        """Readable when there is something to `read`."""
        return self._fd

    def add(self, fd: int, folder: Path) -> int:
        """Tell of directories that come and go in an open directory (O_PATH will do), and of the files.

        `folder` is its name.  Returns the number of the watch, which stays the directory's when that is renamed, and is
        added again by its new name.  Raises KernelError: ENOSPC (/proc/sys/fs/inotify/max_user_watches).
        """
        return self._add(fd, folder, _COME | _GO | IN_CLOSE_WRITE | IN_ATTRIB)

    def add_on_the_way(self, fd: int, folder: Path) -> int:
        """Tell of all names that come and go in an open directory.  Returns and raises as `add` does."""
        watch = self._add(fd, folder, _COME | _GO)
        self._on_the_way.add(watch)
        return watch

    def remove(self, watch: int) -> None:
        """Take back `add` and `add_on_the_way`."""
        self._on_the_way.discard(watch)
        if self._folders.pop(watch, None) is not None:
            # It fails where the directory is gone, and the watch with it.
            self._libc.inotify_rm_watch(self._fd, ctypes.c_int(watch))

    def read(self) -> News:
        """What has happened since it was last read."""
        try:
            data = os.read(self._fd, _BUFFER)
        except BlockingIOError:
            return News()
        found, left, gone, steps, files, lost, at = [], [], [], [], False, False, 0
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
                gone.append(watch)
                del self._folders[watch]
                self._on_the_way.discard(watch)
            else:
                files = files or name.endswith(self._suffix)
                if mask & IN_ISDIR and mask & _COME:
                    found.append(self._folders[watch] / os.fsdecode(name))
                if mask & IN_ISDIR and mask & IN_MOVED_FROM:
                    left.append(self._folders[watch] / os.fsdecode(name))
                if watch in self._on_the_way and mask & (_COME | _GO):
                    steps.append(self._folders[watch] / os.fsdecode(name))
        return News(tuple(found), tuple(left), tuple(gone), tuple(steps), files, lost)

    def close(self) -> None:
        os.close(self._fd)

    def _add(self, fd: int, folder: Path, mask: int) -> int:
        # IN_MASK_ADD: a directory may be listened to for either reason.
        mask |= IN_ONLYDIR | IN_MASK_ADD
        path = ctypes.c_char_p(b"/proc/self/fd/%d" % fd)
        watch = int(self._libc.inotify_add_watch(self._fd, path, ctypes.c_uint32(mask)))
        if watch < 0:
            raise KernelError(f"inotify_add_watch on {folder}", ctypes.get_errno())
        self._folders[watch] = folder
        return watch
