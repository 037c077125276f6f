# SPDX-License-Identifier: GPL-2.0-or-later
"""What every command works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.ctl.console import Console
    from klpd.ctl.local import Machine
    from klpd.ctl.service import Service


class Context:
    """`connect` raises DaemonUnavailableError where there is no klpd to be asked; `json`: print JSON."""

    def __init__(self, console: Console, connect: Callable[[], Service], machine: Machine, *, json: bool) -> None:
        self.console = console
        self.connect = connect
        self.machine = machine
        self.json = json
