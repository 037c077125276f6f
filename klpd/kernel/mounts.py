# SPDX-License-Identifier: GPL-2.0-or-later
"""The mounts that klpd sees, and a sign when they change: /proc/self/mountinfo (proc(5))."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

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


def _unescaped(field: bytes) -> bytes:
    r"""Space, tab, newline and backslash are \040, \011, \012 and \134 there."""
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8)]), field)
