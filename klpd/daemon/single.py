# SPDX-License-Identifier: GPL-2.0-or-later
"""One klpd at a time: another would take the guard's word for itself, and with its end the first one's."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

_LOCK: Final = Path("/run/klpd/lock")


def is_only_one(path: Path = _LOCK) -> bool:
    """Whether no other klpd runs; from now on this one does, until it ends.

    Where that cannot be found out, it is taken for the only one: a klpd too many is better than none.
    """
    try:
        path.parent.mkdir(mode=0o755, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.warning("whether another klpd runs is not known: %s", error)
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return False
    return True  # the lock goes with the descriptor, and that with the process
