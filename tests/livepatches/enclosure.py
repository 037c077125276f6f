# SPDX-License-Identifier: GPL-2.0-or-later
"""Another Debian in a folder, to build what this machine's compiler and C library are too old for.

Commands run in it with one folder of this machine's, at the same path, and in namespaces of their own: nothing is
mounted for anybody else, and an ordinary user can do it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from tests.vm import bootstrap
from tests.vm.command import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_ENTER: Final = """\
set -e
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount --bind "$2" "$1$2"
root=$1
shift 2
exec chroot "$root" env PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
"""


def make(folder: Path, suite: str, sources: Sequence[str], packages: Sequence[str]) -> None:
    """Unpack a Debian with the packages into `folder`.  Raises HarnessError."""
    archive = bootstrap.bootstrap(folder.parent, suite, sources, packages)
    run(["tar", "--extract", "--no-same-owner", "--exclude=./dev/*", "--file", archive, "--directory", folder])


def inside(root: Path, folder: Path, command: Sequence[str]) -> list[str]:
    """What runs the command in the Debian in `root`, which sees this machine's `folder`."""
    (root / folder.relative_to("/")).mkdir(parents=True, exist_ok=True)
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    enter = ["sh", "-c", _ENTER, "enter", str(root), str(folder)]
    return ["unshare", *user, "--mount", "--pid", "--fork", *enter, *command]
