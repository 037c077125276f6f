# SPDX-License-Identifier: GPL-2.0-or-later
"""systemd's file descriptor store: what the service manager keeps while klpd is restarted, however it ended.

sd_listen_fds_with_names(3), FDSTORE=1 in sd_notify(3), FileDescriptorStoreMax= in systemd.service(5).  A descriptor is
closed there when the service is stopped.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FIRST: Final = 3  # SD_LISTEN_FDS_START
_SECONDS: Final = 5.0
"""For a service manager that is slow to read."""


def take_stored() -> dict[str, int]:
    """The descriptors that a former klpd has stored, by their names.  They are the caller's to close."""
    number, names = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()) or not number.isdigit():
        return {}
    stored: dict[str, int] = {}
    for fd in range(_FIRST, _FIRST + int(number)):
        os.set_inheritable(fd, False)  # noqa: FBT003 (it has no name)
        name = names[fd - _FIRST] if fd - _FIRST < len(names) else ""
        if name in stored:
            os.close(fd)
        else:
            stored[name] = fd
    return stored


def replace_stored(former: Iterable[str], fds: Mapping[str, int]) -> None:
    """Have the service manager keep these, by these names, in place of those of the former names.  Raises OSError.

    They are not polled: the kernel says that a BPF map is in error, whatever it is asked (bpf_map_poll).
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.settimeout(_SECONDS)
        manager.connect("\0" + address[1:] if address.startswith("@") else address)
        for name in former:
            manager.send(f"FDSTOREREMOVE=1\nFDNAME={name}".encode())
        for name, fd in fds.items():
            socket.send_fds(manager, [f"FDSTORE=1\nFDPOLL=0\nFDNAME={name}".encode()], [fd])
