# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's monitor: as much of QMP as saving and restoring needs."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

from tests.vm.errors import HarnessError, HostDied

if TYPE_CHECKING:
    from pathlib import Path


class Monitor:
    """A connection to a QEMU that has just started."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")
        self._receive()  # the greeting
        self.execute("qmp_capabilities")

    def close(self) -> None:
        """Close the connection."""
        self._lines.close()
        self._connection.close()

    def execute(self, command: str, **arguments: object) -> Any:
        """Run one command and give what it returns; raises HarnessError where QEMU says no, HostDied if it is gone."""
        return self._ask(command, arguments, [])

    def save(self, state: Path) -> None:
        """Stop the machine and write everything but its memory, which is a file already, to ``state``."""
        self.execute("stop")
        self._leave_out_memory()
        with state.open("wb") as file:
            self._ask("getfd", {"fdname": "state"}, [file.fileno()])
        self.execute("migrate", uri="fd:state")
        self._wait_for_migration()

    def load(self, state: Path) -> None:
        """Take on what ``save`` wrote, and go on running.  QEMU was started with `-incoming defer`."""
        self._leave_out_memory()
        with state.open("rb") as file:
            self._ask("getfd", {"fdname": "state"}, [file.fileno()])
        self.execute("migrate-incoming", uri="fd:state")
        self._wait_for_migration()
        self.execute("cont")

    def _leave_out_memory(self) -> None:
        self.execute(
            "migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}]
        )

    def _wait_for_migration(self) -> None:
        while (info := self.execute("query-migrate")).get("status") != "completed":
            if info.get("status") in ("failed", "cancelled"):
                raise HarnessError(f"QEMU could not save or restore the machine: {info}")
            time.sleep(0.005)

    def _ask(self, command: str, arguments: dict[str, object] | dict[str, str], files: list[int]) -> Any:
        request = json.dumps({"execute": command, "arguments": arguments}).encode()
        try:
            socket.send_fds(self._connection, [request], files)
            while True:
                answer = self._receive()
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    raise HarnessError(f"QEMU refuses {command}: {answer['error']['desc']}")
        except OSError as error:
            raise HostDied(f"QEMU ended during {command}") from error

    def _receive(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise HostDied("QEMU ended")
        message: dict[str, Any] = json.loads(line)
        return message
