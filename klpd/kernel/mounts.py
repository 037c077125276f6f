# SPDX-License-Identifier: GPL-2.0-or-later
"""The mounts that klpd sees, and a sign when they change: /proc/self/mountinfo (proc(5)).

A file is at the same place in its file system by whatever mount somebody comes to it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MOUNTINFO: Final = "/proc/self/mountinfo"
_CHUNK: Final = 1 << 16
_ESCAPED: Final = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount, by the kernel's number for it, and where it is."""

    id: int
    point: Path


class Mounts:
    """The mounts of klpd's own namespace, into which the host's come as they are made (mount_namespaces(7))."""

    def __init__(self) -> None:
        self._fd = os.open(MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC)

    def fileno(self) -> int:
        """poll(2) gives POLLERR and POLLPRI for it when the mounts have changed since it was last polled."""
        return self._fd

    def read(self) -> frozenset[Mount]:
        """The mounts there are now."""
        parts, at = [], 0
        while part := os.pread(self._fd, _CHUNK, at):
            parts.append(part)
            at += len(part)
        return parse(b"".join(parts))

    def close(self) -> None:
        os.close(self._fd)


def parse(text: bytes) -> frozenset[Mount]:
    """The mounts in the text of a mountinfo file."""
    rows = (line.split(b" ") for line in text.splitlines())
    return frozenset(Mount(int(row[0]), Path(os.fsdecode(_unescaped(row[4])))) for row in rows)


def cgroup_roots(text: bytes) -> tuple[Path, ...]:
    """Where a mountinfo file has the unified hierarchy of cgroups, from what is its root there on (proc(5): fields 4
    and 5, and the type after " - ").
    """
    found = []
    for line in text.splitlines():
        mount, _, source = line.partition(b" - ")
        row = mount.split(b" ")
        if source.startswith(b"cgroup2 ") and row[3] == b"/":
            found.append(Path(os.fsdecode(_unescaped(row[4]))))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Place:
    """A directory: its file system's device, and where it is in that."""

    device: bytes
    folder: Path

    def lies_in(self, other: Place) -> bool:
        return self.device == other.device and self.folder.is_relative_to(other.folder)


def place_of(folder: Path, text: bytes) -> Place | None:
    """Where a directory is, by the mount of a mountinfo file that shows it; None where none does."""
    shown = None
    depth = -1
    for line in text.splitlines():
        row = line.split(b" ")
        root, point = (Path(os.fsdecode(_unescaped(each))) for each in row[3:5])
        # Of several at one place, the last one hides the others.
        if folder.is_relative_to(point) and len(point.parts) >= depth:
            depth = len(point.parts)
            shown = Place(row[2], root / folder.relative_to(point))
    return shown


def lies_in(fd: int, folders: Iterable[Path]) -> bool:
    """Whether the file behind a descriptor was opened in one of these directories, or anywhere below them."""
    path = Path(os.readlink(f"/proc/self/fd/{fd}"))
    if not path.is_absolute() or not _is_file(path, fd):
        return False
    real = [Path(os.path.realpath(each)) for each in folders]
    if any(path.parent.is_relative_to(each) for each in real):
        return True
    text = Path(MOUNTINFO).read_bytes()
    place = place_of(path.parent, text)
    return place is not None and any(
        there is not None and place.lies_in(there) for there in (place_of(each, text) for each in real)
    )


def _is_file(path: Path, fd: int) -> bool:
    """Whether the file at `path`, as this process sees it, is the one behind `fd`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except OSError:
        return False


def _unescaped(field: bytes) -> bytes:
    r"""Space, tab, newline and backslash are \040, \011, \012 and \134 there."""
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), field)
