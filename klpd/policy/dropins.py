# SPDX-License-Identifier: GPL-2.0-or-later
"""Which policy files and manifests count, and in which order: systemd's way with drop-ins (its standard-conf.xml)."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klpd.errors import PolicyError
from klpd.policy.show import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DIRECTORIES: Final = ("etc/klpd/policy.d", "run/klpd/policy.d", "usr/lib/klpd/policy.d")
"""Where policy files are, the site's own first: a name in one of them hides the same name in those after it."""
_DEV_NULL: Final = os.makedev(1, 3)


def list_files(root: Path = Path("/"), directories: Iterable[str] = DIRECTORIES) -> tuple[Path, ...]:
    """The files below `root` in the order in which they count.  A directory that is not there holds none.

    Raises PolicyError where a directory or what is in it cannot be looked at.
    """
    found: dict[str, Path] = {}
    for directory in directories:
        for path in _files_in(root / directory):
            found.setdefault(path.name, path)
    return tuple(path for _, path in sorted(found.items()) if not is_mask(path))


def is_mask(path: Path) -> bool:
    """Whether a file stands for nothing, to hide one of its name: it is empty, or a link to /dev/null."""
    try:
        status = path.stat()
    except OSError as error:
        raise PolicyError(f"cannot be read: {error.strerror}", file=shown(path)) from error
    if stat.S_ISREG(status.st_mode):
        return status.st_size == 0
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == _DEV_NULL


def _files_in(directory: Path) -> Iterator[Path]:
    """Editors and package managers leave files with other suffixes, and hidden ones, which are not meant."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise PolicyError(f"cannot be read: {error.strerror}", file=shown(directory)) from error
    for name in names:
        if name.endswith(".toml") and not name.startswith("."):
            path = directory / name
            if not name.isprintable():
                raise PolicyError("the name of such a file has to be printable UTF-8", file=shown(path))
            yield path
