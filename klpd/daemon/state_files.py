# SPDX-License-Identifier: GPL-2.0-or-later
"""How the files are written in which klpd keeps what it has to know after a restart."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """The kernel's name for the time since it booted (random(4))."""
    return _BOOT_ID.read_text(encoding="ascii").strip()


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old or the new one.  Raises OSError."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
