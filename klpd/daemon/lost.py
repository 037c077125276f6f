# SPDX-License-Identifier: GPL-2.0-or-later
"""How many of the guard's events were lost that nobody was told of: its count outlives klpd, and this remembers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from klpd.daemon.state_files import AtOnce, replace_file

if TYPE_CHECKING:
    from klpd.daemon.state_files import Writing

_TOLD: Final = Path("/run/klpd/events-lost")


class LostEvents:
    """Keeps what was told in `path`, a file that does not outlive the kernel."""

    def __init__(self, path: Path = _TOLD, files: Writing | None = None) -> None:
        self._files = files or AtOnce()
        self._path = path
        try:
            self._told = int(path.read_text())
        except (OSError, ValueError):
            self._told = 0

    def untold(self, lost: int) -> int:
        """How many more are lost than were told, which counts as telling it; `lost` is the guard's count."""
        # A new guard counts anew.
        new = lost - self._told if lost >= self._told else lost
        if lost != self._told:
            self._told = lost
            self._files.write(str(self._path), lambda: replace_file(self._path, f"{lost}\n".encode()))
        return new
