# SPDX-License-Identifier: GPL-2.0-or-later
"""fanotify(7) permission events on the files of directories, as far as klpd needs them.

Whoever is held waits in the kernel until `allow` or `refuse` answers its event.  Closing the group lets everyone
through.

To make an event's descriptor, the kernel opens the file anew on the thread that reads the event.  On a local disk this
waits for nothing.  Where the file system has to ask somebody else at each open (FUSE, NFS), it waits for them.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from klpd.errors import KernelError

if TYPE_CHECKING:
    from pathlib import Path

# include/uapi/linux/fanotify.h
FAN_CLOEXEC: Final = 0x1
FAN_NONBLOCK: Final = 0x2
FAN_CLASS_CONTENT: Final = 0x4
FAN_UNLIMITED_QUEUE: Final = 0x10
FAN_UNLIMITED_MARKS: Final = 0x20
FAN_REPORT_TID: Final = 0x100
FAN_MARK_ADD: Final = 0x1
FAN_MARK_REMOVE: Final = 0x2
FAN_MARK_DONT_FOLLOW: Final = 0x4
FAN_MARK_ONLYDIR: Final = 0x8
FAN_MARK_IGNORED_MASK: Final = 0x20
FAN_Q_OVERFLOW: Final = 0x4000
FAN_OPEN_PERM: Final = 0x10000
FAN_ACCESS_PERM: Final = 0x20000
FAN_EVENT_ON_CHILD: Final = 0x08000000
FAN_ALLOW: Final = 0x1
FAN_DENY: Final = 0x2
_DIRECTORY: Final = FAN_MARK_ONLYDIR | FAN_MARK_DONT_FOLLOW
_NO_FD: Final = -1
_AT_FDCWD: Final = -100
_METADATA: Final = struct.Struct("=IBBHQii")  # struct fanotify_event_metadata
_RESPONSE: Final = struct.Struct("=iI")  # struct fanotify_response
_BUFFER: Final = 64 * _METADATA.size
# Without it a file of over 2 GiB could not be opened at all.  glibc defines it as 0 on 64 bit, the kernel does not.
_O_LARGEFILE: Final = {"aarch64": 0o400000, "ppc64le": 0o200000}
_O_LARGEFILE_OTHERS: Final = 0o100000


@dataclass(frozen=True, slots=True)
class Held:
    """Who waits to open a file, or to read from it: `fd` is the file, opened for reading, and the key for the answer.

    `pid` is the process; in a group that holds readers, too, it is the thread.
    """

    fd: int
    pid: int
    reading: bool = False


class Fanotify:
    """One notification group.  With `readers`, each read(2) of a watched file is held, and not only its open(2).

    Raises KernelError (EPERM without CAP_SYS_ADMIN, ENOSYS without fanotify).
    """

    def __init__(self, *, readers: bool = False) -> None:
        self._events = FAN_OPEN_PERM | (FAN_ACCESS_PERM if readers else 0)
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._libc.fanotify_init.argtypes = (ctypes.c_uint, ctypes.c_uint)
        self._libc.fanotify_mark.argtypes = (
            ctypes.c_int,
            ctypes.c_uint,
            ctypes.c_uint64,
            ctypes.c_int,
            ctypes.c_char_p,
        )
        # No bound of the kernel's on queue and marks: a full queue would let openers through unjudged, and there is
        # never more than one event a waiting process.
        flags = FAN_CLASS_CONTENT | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE | FAN_UNLIMITED_MARKS
        if readers:
            flags |= FAN_REPORT_TID
        large = _O_LARGEFILE.get(platform.machine(), _O_LARGEFILE_OTHERS)
        # O_NONBLOCK, since the kernel opens the file anew for each event: where it raises one for a FIFO (not every
        # kernel does), it would wait for the other end, and for whoever holds a lease on a file.
        self._fd = int(self._libc.fanotify_init(flags, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | large))
        if self._fd < 0:
            raise KernelError("fanotify_init", ctypes.get_errno())

    def fileno(self) -> int:
        """The group's descriptor, readable when events wait."""
        return self._fd

    def watch(self, directory: Path) -> None:
        """Hold who opens (or reads) the directory's files, not those of its subdirectories.

        Raises KernelError: ENOENT, ENOTDIR, EINVAL on a file system that cannot be watched.
        """
        self._mark(FAN_MARK_ADD | _DIRECTORY, self._events | FAN_EVENT_ON_CHILD, _AT_FDCWD, os.fsencode(directory))

    def unwatch(self, directory: Path) -> None:
        """Take back `watch`.  Raises KernelError: ENOENT where it is not there any more, or is not watched."""
        self._mark(FAN_MARK_REMOVE | _DIRECTORY, self._events | FAN_EVENT_ON_CHILD, _AT_FDCWD, os.fsencode(directory))

    def ignore(self, fd: int) -> None:
        """Let everyone to the file `fd` without an event until it is modified by write(2) or truncate(2).

        A change through a shared mapping, of which the kernel tells nobody, does not end it.
        """
        self._mark(FAN_MARK_ADD | FAN_MARK_IGNORED_MASK, self._events, fd, None)

    def heed(self, fd: int) -> None:
        """Take back `ignore`."""
        self._mark(FAN_MARK_REMOVE | FAN_MARK_IGNORED_MASK, self._events, fd, None)

    def read(self) -> tuple[list[Held], bool]:
        """The events that wait, and whether the queue overflowed, so that some went on without one.

        Raises OSError for an event whose file could not be opened for klpd (EMFILE, for example); the kernel has then
        refused the opener with EPERM (fanotify_read in fs/notify/fanotify/fanotify_user.c).
        """
        try:
            data = os.read(self._fd, _BUFFER)
        except BlockingIOError:
            return [], False
        held, lost, at = [], False, 0
        while at + _METADATA.size <= len(data):
            length, _version, _reserved, _size, mask, fd, pid = _METADATA.unpack_from(data, at)
            at += length
            if mask & FAN_Q_OVERFLOW:
                lost = True
            elif fd != _NO_FD:
                held.append(Held(fd, pid, bool(mask & FAN_ACCESS_PERM)))
        return held, lost

    def allow(self, held: Held) -> None:
        """Let who is held go on.  The event's descriptor stays open: it is the caller's to close."""
        self._answer(held, FAN_ALLOW)

    def refuse(self, held: Held) -> None:
        """Let the system call of who is held fail with EPERM.  The descriptor stays open, as with `allow`."""
        self._answer(held, FAN_DENY)

    def close(self) -> None:
        """Close the group; everyone who waits is let through."""
        fd, self._fd = self._fd, _NO_FD
        os.close(fd)

    def _answer(self, held: Held, answer: int) -> None:
        with suppress(FileNotFoundError):  # who was held was killed meanwhile, and the event is gone
            os.write(self._fd, _RESPONSE.pack(held.fd, answer))

    def _mark(self, flags: int, mask: int, fd: int, path: bytes | None) -> None:
        if self._libc.fanotify_mark(self._fd, flags, mask, fd, path) != 0:
            where = os.fsdecode(path) if path is not None else f"descriptor {fd}"
            raise KernelError(f"fanotify_mark on {where}", ctypes.get_errno())
