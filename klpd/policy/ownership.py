# SPDX-License-Identifier: GPL-2.0-or-later
"""Who could change what a path leads to: whoever may write a policy file decides what the kernel takes.

That is whoever may write the file, or any directory on the way to it, links included.  In a directory that has the
sticky bit nobody can put something in the place of what root has there; but anybody can put something beside it, so a
directory of policy files must not be one.  The group counts for others whichever it is, also group 0: its members are
not root.  Once none but root could change the way, nobody can between the look at it and the opening of the file.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from klpd.errors import PolicyError
from klpd.policy.show import printable, shown

if TYPE_CHECKING:
    from pathlib import Path

ROOT: Final = 0
_MOST_LINKS: Final = 40
"""As many as the kernel follows (MAXSYMLINKS)."""
_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


def reach(path: Path, owner: int | None) -> bool:
    """Follow `path`, through links: whether there is anything.

    What is there, and the way to it, has to belong to root or to user `owner`, and nobody else may be able to write it;
    None: whoever may.  A directory there must be writable for nobody else even if it has the sticky bit.

    Raises PolicyError where it is otherwise, where the way cannot be followed, and where a link leads to nothing.
    """
    try:
        return _Way(path, owner).follow()
    except OSError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: OSError) -> PolicyError:
    """The complaint about a file or directory that cannot be read."""
    forbidden = error.errno in (errno.EACCES, errno.EPERM)
    return PolicyError(f"cannot be read: {error.strerror}", file=shown(path), forbidden=forbidden)


class _Way:
    """The way to a path, component by component; `_at` is a directory on it, without links in its name."""

    def __init__(self, path: Path, owner: int | None) -> None:
        self._path = path
        self._trusted = None if owner is None else {ROOT, owner}
        self._at = "/"
        self._status = os.lstat("/")
        # A name, and whether it comes from a link.
        self._ahead = [(each, False) for each in reversed(os.path.join(os.getcwd(), path).split("/"))]

    def follow(self) -> bool:
        links = 0
        while self._ahead:
            name, linked = self._ahead.pop()
            if name in ("", "."):
                continue
            if name == "..":
                self._go(os.path.dirname(self._at))
                continue
            inner = os.path.join(self._at, name)
            try:
                status = os.lstat(inner)
            except FileNotFoundError:
                self._check_directory(None)
                if linked and self._trusted is None and self._path.exists():
                    return True  # the links in /proc lead further than their text
                if linked:
                    raise self._leads_nowhere(inner) from None
                return False
            self._check_directory(status)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                self._turn(os.readlink(inner))
            else:
                self._at, self._status = inner, status
        self._check_end()
        return True

    def _go(self, directory: str) -> None:
        self._at, self._status = directory, os.lstat(directory)

    def _turn(self, target: str) -> None:
        self._ahead += ((each, True) for each in reversed(target.split("/")))
        if target.startswith("/"):
            self._go("/")

    def _check_directory(self, entry: os.stat_result | None) -> None:
        """`entry` is what the way goes on to, if it is there."""
        if self._trusted is None:
            return
        stays = self._status.st_mode & stat.S_ISVTX and entry is not None and entry.st_uid in self._trusted
        self._check(writable=bool(self._status.st_mode & _OTHERS) and not stays)

    def _check_end(self) -> None:
        mode = self._status.st_mode
        # Anybody may write to /dev/null, and nobody changes it.
        if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
            self._check(writable=bool(mode & _OTHERS))

    def _check(self, *, writable: bool) -> None:
        if self._trusted is None:
            return
        if self._status.st_uid not in self._trusted:
            what = f"belongs to user {self._status.st_uid}"
        elif writable:
            what = "can be written by others than root"
        else:
            return
        subject = "it" if self._at == os.path.abspath(self._path) else f"{printable(self._at)}, on the way to it,"
        raise PolicyError(
            f"{subject} {what}, and what klpd goes by is for root alone to say; chown root and chmod go-w it",
            file=shown(self._path),
            exposed=True,
        )

    def _leads_nowhere(self, missing: str) -> PolicyError:
        return PolicyError(
            f"cannot be read: a link leads to {printable(missing)}, which does not exist; mount or make what it is "
            "meant to lead to, or take the link away",
            file=shown(self._path),
        )
