# SPDX-License-Identifier: GPL-2.0-or-later
"""Uevents of modules: a module has come or is going.  They are news, not a gate: `add` is sent after its init ran.

pyudev's own observers end without a sign at the first overrun of the socket, whose error never clears.  So the
socket is watched by klpd's loop, and after an error the monitor is made anew; what was lost is for the caller to
look up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pyudev

if TYPE_CHECKING:
    from collections.abc import Callable

_BUFFER: Final = 1 << 20  # a burst of some thousand modules


class ModuleEvents:
    """The kernel's uevents of the subsystem "module".

    `changed` is called with the names of the modules that came or went, or with None where events were lost.
    """

    def __init__(self, changed: Callable[[frozenset[str] | None], None]) -> None:
        self._changed = changed
        self._context = pyudev.Context()
        self._monitor = self._fresh()

    def fileno(self) -> int:
        """The descriptor to watch; call `fileno` again after `read` returned true."""
        return self._monitor.fileno()

    def read(self) -> bool:
        """Take what waits.  True if the monitor had to be made anew, and with it the descriptor."""
        names: set[str] = set()
        try:
            while (device := self._monitor.poll(0)) is not None:
                names.add(device.sys_name)
        except OSError:
            self._monitor = self._fresh()
            self._changed(None)
            return True
        self._changed(frozenset(names))
        return False

    def _fresh(self) -> pyudev.Monitor:
        monitor = pyudev.Monitor.from_netlink(self._context, "kernel")
        monitor.filter_by("module")
        monitor.set_receive_buffer_size(_BUFFER)
        monitor.start()
        return monitor
