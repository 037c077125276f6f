# SPDX-License-Identifier: GPL-2.0-or-later
"""The root of the unified hierarchy of cgroups (cgroups(7)): what is attached there is asked for all tasks."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klpd.errors import KernelError
from klpd.kernel.mounts import MOUNTINFO, cgroup_roots

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT_INODE: Final = 1
"""That of the root of every kernfs (kernfs_create_root), which is the id of the root cgroup (cgroup_id)."""


@contextmanager
def root_cgroup() -> Iterator[int]:
    """A descriptor of it.  Raises KernelError: ENOENT where it is mounted nowhere that klpd can see."""
    for point in cgroup_roots(Path(MOUNTINFO).read_bytes()):
        try:
            fd = os.open(point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError.of(f"cannot open {point}", error) from error
        try:
            # In a namespace of cgroups, what looks like the root is none.
            if os.fstat(fd).st_ino == _ROOT_INODE:
                yield fd
                return
        finally:
            os.close(fd)
    raise KernelError("the root of the cgroups (cgroup2) is not mounted", errno.ENOENT)
