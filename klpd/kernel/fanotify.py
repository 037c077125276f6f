# SPDX-License-Identifier: GPL-2.0-or-later
"""fanotify(7) permission events on the files of directories, as far as klpd needs them.

Whoever is held waits in the kernel until `allow` or `refuse` answers its event.  Closing the group lets everyone
through.

To make an event's descriptor, the kernel opens the file anew on the thread that reads the event.  On a local disk this
waits for nothing, unless somebody has a lease on the file (fcntl(2), F_SETLEASE): then until that is given back, or for
/proc/sys/fs/lease-break-time.  Where the file system has to ask somebody else at each open (FUSE, NFS), it waits for
them.  A signal ends that.  There are no events of FIFOs and devices (fanotify_group_event_mask in
fs/notify/fanotify/fanotify.c).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from klpd.errors import KernelError

# include/uapi/linux/fanotify.h
FAN_CLOEXEC: Final = 0x1
FAN_NONBLOCK: Final = 0x2
FAN_CLASS_CONTENT: Final = 0x4
FAN_UNLIMITED_QUEUE: Final = 0x10
FAN_UNLIMITED_MARKS: Final = 0x20
FAN_REPORT_TID: Final = 0x100
FAN_MARK_ADD: Final = 0x1
FAN_MARK_REMOVE: Final = 0x2
FAN_MARK_ONLYDIR: Final = 0x8
FAN_MARK_IGNORED_MASK: Final = 0x20
FAN_MARK_FLUSH: Final = 0x80
FAN_Q_OVERFLOW: Final = 0x4000
FAN_OPEN_PERM: Final = 0x10000
FAN_ACCESS_PERM: Final = 0x20000
FAN_EVENT_ON_CHILD: Final = 0x08000000
FAN_ALLOW: Final = 0x1
FAN_DENY: Final = 0x2
_NO_FD: Final = -1
_AT_FDCWD: Final = -100
_METADATA: Final = struct.Struct("=IBBHQii")  # struct fanotify_event_metadata
_RESPONSE: Final = struct.Struct("=iI")  # struct fanotify_response
# Without it a file of over 2 GiB could not be opened at all.  glibc defines it as 0 on 64 bit, the kernel does not.
_O_LARGEFILE: Final = {"aarch64": 0o400000, "ppc64le": 0o200000}
_O_LARGEFILE_OTHERS: Final = 0o100000


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Who waits to open a file, or to read from it: `fd` is the file, opened for reading, and the key for the answer.

    Each is itself and no other: the next may well have the same numbers, when the descriptor was closed.
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
        # Without O_NONBLOCK: with it, the kernel refuses the opener of a file on which there is a lease.
        self._fd = int(self._libc.fanotify_init(flags, os.O_RDONLY | os.O_CLOEXEC | large))
        if self._fd < 0:
            raise KernelError("fanotify_init", ctypes.get_errno())

    def fileno(self) -> int:
        """The group's descriptor, readable when events wait."""
        return self._fd

    def watch(self, directory: int) -> None:
        """Hold who opens (or reads) the files of an open directory (O_PATH will do), not those of its subdirectories.

        Raises KernelError: EINVAL on a file system that cannot be watched.
        """
        self._mark(FAN_MARK_ADD | FAN_MARK_ONLYDIR, self._events | FAN_EVENT_ON_CHILD, directory, b".")

    def unwatch(self, directory: int) -> None:
        """Take back `watch`.  Raises KernelError: ENOENT where it is not watched."""
        self._mark(FAN_MARK_REMOVE | FAN_MARK_ONLYDIR, self._events | FAN_EVENT_ON_CHILD, directory, b".")

    def watch_file(self, fd: int) -> None:
        """Hold who opens (or reads) one open file, by whatever name.  Raises KernelError."""
        self._mark(FAN_MARK_ADD, self._events, fd, None)

    def flush(self) -> None:
        """Hold nobody any more but who is held already.  Raises KernelError."""
        self._mark(FAN_MARK_FLUSH, 0, _AT_FDCWD, b"/")

    def ignore(self, fd: int) -> None:
        """Let everyone to the file `fd` without an event until it is modified by write(2) or truncate(2).

        A change through a shared mapping, of which the kernel tells nobody, does not end it.
        """
        self._mark(FAN_MARK_ADD | FAN_MARK_IGNORED_MASK, self._events, fd, None)

    def heed(self, fd: int) -> None:
        """Take back `ignore`."""
        self._mark(FAN_MARK_REMOVE | FAN_MARK_IGNORED_MASK, self._events, fd, None)

    def read(self) -> Held | None:
        """The next event; None where there is none.  May wait for the file, see above.

        Raises KernelError for an event whose file could not be opened for klpd (EMFILE, for example): the kernel has
        then refused the opener with EPERM (fanotify_read in fs/notify/fanotify/fanotify_user.c); EOVERFLOW where the
        queue was full and somebody went on without an event.
        """
        try:
            # One at a time: after others, the kernel would not tell of one that it has refused, and none is to wait
            # here while the next one's file is opened.
            data = os.read(self._fd, _METADATA.size)
        except BlockingIOError:
            return None
        except OSError as error:
            raise KernelError.of("cannot take who opens a file", error) from error
        _length, _version, _reserved, _size, mask, fd, pid = _METADATA.unpack(data)
        if mask & FAN_Q_OVERFLOW or fd == _NO_FD:
            raise KernelError("cannot take who opens a file", errno.EOVERFLOW)
        return Held(fd, pid, bool(mask & FAN_ACCESS_PERM))

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
            raise KernelError("fanotify_mark", ctypes.get_errno())
