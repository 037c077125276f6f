# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may load modules, of those who open their files (proc(5), capabilities(7))."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from klpd.kernel.threads import PROC

if TYPE_CHECKING:
    from pathlib import Path

CAP_SYS_MODULE: Final = 16
_ROOT: Final = 0
_GONE: Final = 65534
"""The user of a process that is gone, and waits no more: the kernel's overflow user id."""


def user_who_waits(pid: int, proc: Path = PROC) -> int | None:
    """The effective user id of a process or thread; None for root's with CAP_SYS_MODULE, which may load modules.

    Somebody else with this capability counts as a user like others.
    """
    folder = f"{proc}/{pid}"
    try:
        # The owner of this directory is the effective user even of a process that may not be dumped
        # (task_dump_owner in fs/proc/base.c): one call, and no file is opened for most of them.
        user = os.stat(folder).st_uid
        return None if user == _ROOT and _may_load(folder) else user
    except OSError:
        return _GONE


def _may_load(folder: str) -> bool:
    with open(f"{folder}/status", "rb") as status:
        fields = dict(line.split(b":\t", 1) for line in status if b":\t" in line)
    # Permitted, and not effective: a program may keep it for the very moment of the load.
    return bool(int(fields[b"CapPrm"], 16) >> CAP_SYS_MODULE & 1)
