# SPDX-License-Identifier: GPL-2.0-or-later
"""QEMU's monitor: as much of QMP as saving and restoring needs."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING

from tests.vm.errors import HarnessError, HostDied

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
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

    def execute(self, command: str, **arguments: object) -> object:
        """Run one command and give what it returns; raises HarnessError where QEMU says no, HostDied if it is gone."""
        return self._ask(command, arguments, [])

    def wait_for(self, event: str, timeout: float) -> bool:
        """Wait until QEMU tells of ``event``; False if it does not in ``timeout`` seconds.  Raises HostDied.

        What happened before the last command has been forgotten.
        """
        deadline = time.monotonic() + timeout
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._connection.settimeout(left)
                match self._receive():
                    case {"event": name} if name == event:
                        return True
                    case _:
                        pass
        except TimeoutError:
            pass
        finally:
            self._connection.settimeout(None)
        return False

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
        self.execute("migrate-set-capabilities", capabilities=[{"capability": "x-ignore-shared", "state": True}])

    def _wait_for_migration(self) -> None:
        while True:
            match self.execute("query-migrate"):
                case {"status": "completed"}:
                    return
                case {"status": "failed" | "cancelled"} as info:
                    raise HarnessError(f"QEMU could not save or restore the machine: {info}")
                case _:
                    time.sleep(0.005)

    def _ask(self, command: str, arguments: Mapping[str, object], files: Sequence[int]) -> object:
        request = json.dumps({"execute": command, "arguments": arguments}).encode()
        try:
            socket.send_fds(self._connection, [request], files)
            while True:
                match self._receive():
                    case {"return": answer}:
                        return answer
                    case {"error": {"desc": reason}}:
                        raise HarnessError(f"QEMU refuses {command}: {reason}")
                    case _:  # an event
                        pass
        except OSError as error:
            raise HostDied(f"QEMU ended during {command}") from error

    def _receive(self) -> object:
        line = self._lines.readline()
        if not line:
            raise HostDied("QEMU ended")
        message: object = json.loads(line)
        return message
