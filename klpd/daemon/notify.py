# SPDX-License-Identifier: GPL-2.0-or-later
"""sd_notify(3) over the datagram socket, without ever waiting.

systemd.daemon.notify holds the interpreter lock while PID 1 is slow to read, and a hold thread would answer nobody.
"""

from __future__ import annotations

import os
import socket
import time


def notify(*assignments: str) -> bool:
    """Send assignments such as "READY=1" to the service manager; without one (NOTIFY_SOCKET unset), do nothing.

    Whether it has them: else its queue is full, or it is not there, and whoever needs that it has them tries again.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return True
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
            manager.settimeout(0)
            manager.connect(address)
            manager.send("\n".join(assignments).encode())
    except OSError:
        return False
    return True


def notify_reloading() -> None:
    """Tell that a reload begins; systemd 253's Type=notify-reload wants the time with it."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def watchdog_period() -> float | None:
    """How often to send "WATCHDOG=1", in seconds: a third of what the unit allows.  None without a watchdog."""
    allowed = os.environ.get("WATCHDOG_USEC", "")
    if not allowed.isdigit() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(allowed) / 3_000_000
