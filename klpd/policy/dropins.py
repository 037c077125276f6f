# SPDX-License-Identifier: GPL-2.0-or-later
"""Which policy files and manifests count, and in which order: systemd's way with drop-ins (its standard-conf.xml)."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klpd.errors import PolicyError
from klpd.policy.ownership import ROOT, reach, unreadable
from klpd.policy.show import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DIRECTORIES: Final = ("etc/klpd/policy.d", "run/klpd/policy.d", "usr/lib/klpd/policy.d")
"""Where policy files are, the site's own first: a name in one of them hides the same name in those after it."""
_DEV_NULL: Final = os.makedev(1, 3)


@dataclass(frozen=True, slots=True)
class Found:
    """The files that count, in their order, and what is wrong with the directories and with those left out."""

    files: tuple[Path, ...]
    complaints: tuple[PolicyError, ...]


def find_files(root: Path = Path("/"), directories: Iterable[str] = DIRECTORIES, *, owner: int | None = ROOT) -> Found:
    """Look for the files below `root`.  A directory that is not there holds none; `owner` as for `reach`."""
    found: dict[str, Path] = {}
    complaints: list[PolicyError] = []
    for directory in directories:
        try:
            for path in _files_in(root / directory, owner):
                found.setdefault(path.name, path)
        except PolicyError as error:
            complaints.append(error)
    files: list[Path] = []
    for _, path in sorted(found.items()):
        try:
            _check_name(path)
            if not is_mask(path, owner):
                files.append(path)
        except PolicyError as error:
            complaints.append(error)
    return Found(tuple(files), tuple(complaints))


def is_mask(path: Path, owner: int | None = ROOT) -> bool:
    """Whether a file stands for nothing, to hide one of its name: it is empty, or a link to /dev/null.

    Raises PolicyError where it cannot be looked at, or where others than `owner` could change it (`reach`).
    """
    reach(path, owner)
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from error
    if stat.S_ISREG(status.st_mode):
        return status.st_size == 0
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == _DEV_NULL


def _files_in(directory: Path, owner: int | None) -> Iterator[Path]:
    """Editors and package managers leave files with other suffixes, and hidden ones, which are not meant."""
    if not reach(directory, owner):
        return
    try:
        names = os.listdir(directory)
    except OSError as error:
        raise unreadable(directory, error) from error
    for name in names:
        if name.endswith(".toml") and not name.startswith("."):
            yield directory / name


def _check_name(path: Path) -> None:
    if not path.name.isprintable():
        raise PolicyError("the name of such a file has to be printable UTF-8", file=shown(path))
