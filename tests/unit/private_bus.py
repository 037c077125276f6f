# SPDX-License-Identifier: GPL-2.0-or-later
"""A message bus of a test's own, in place of the system's, and services on it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def message_bus(at: str | None = None) -> Iterator[str]:
    """A bus; its address, that is chosen if it is not given."""
    command = ["dbus-daemon", "--session", "--nofork", "--print-address"]
    if at is not None:
        command.append(f"--address={at}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        try:
            yield daemon.stdout.readline().strip()
        finally:
            daemon.terminate()


@contextmanager
def service(address: str, module: str, *arguments: str) -> Iterator[None]:
    """A Python module that runs as a service on the bus, and prints "ready" when it is there."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, env=on_bus(address), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        try:
            yield
        finally:
            server.kill()


def on_bus(address: str) -> dict[str, str]:
    """The environment of a process that is to take the bus for the system's."""
    return {**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address}
