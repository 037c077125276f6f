# SPDX-License-Identifier: GPL-2.0-or-later
"""Journal entries in journald's native protocol, sent without ever waiting.

systemd.journal.send holds the interpreter lock while journald is slow to read; a process that waits for a held open
might be the very one that journald waits for.  What the socket does not take at once is kept, in order and within a
bound, and sent with the next entry; what exceeds the bound is counted and told of.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from klpd.messages import MessageId

SOCKET: Final = "/run/systemd/journal/socket"
_BACKLOG: Final = 1000
_LARGEST: Final = 128 * 1024
_FULL: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ECONNREFUSED, errno.ENOENT, errno.ENOTCONN})
_PRIORITIES: Final = {
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}  # syslog(3)


def encode(fields: Mapping[str, str]) -> bytes:
    """One entry: NAME=value lines, with the binary form for values that hold newlines."""
    parts = []
    for name, value in fields.items():
        data = value.encode("utf-8", "backslashreplace")[:_LARGEST]
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)


class Journal:
    """A sender of entries; safe to use from any thread."""

    def __init__(self, address: str = SOCKET) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(0)
        self._lock = threading.Lock()
        self._backlog: deque[bytes] = deque()
        self._dropped = 0

    def event(self, message_id: MessageId, priority: int, message: str, fields: Mapping[str, str]) -> None:
        """Send an entry with a MESSAGE_ID.  `priority` is a level of the logging module."""
        self.send({"MESSAGE_ID": message_id.value, **fields}, priority, message)

    def send(self, fields: Mapping[str, str], priority: int, message: str) -> None:
        """Send an entry, or keep it for later."""
        head = {
            "MESSAGE": message,
            "PRIORITY": str(_PRIORITIES.get(priority, 6)),
            "SYSLOG_IDENTIFIER": "klpd",
        }
        with self._lock:
            self._backlog.append(encode({**head, **fields}))
            if len(self._backlog) > _BACKLOG:
                self._backlog.popleft()
                self._dropped += 1
            self._drain()

    def flush(self) -> None:
        """Try again to send what is kept."""
        with self._lock:
            self._drain()

    @property
    def pending(self) -> int:
        """How many entries wait for journald."""
        return len(self._backlog)

    def _drain(self) -> None:
        while self._backlog:
            if not self._sent(self._backlog[0]):
                return
            self._backlog.popleft()
        if self._dropped:
            lost = {
                "MESSAGE": f"{self._dropped} journal entries of klpd were lost: journald did not read",
                "PRIORITY": "3",
                "SYSLOG_IDENTIFIER": "klpd",
            }
            if self._sent(encode(lost)):
                self._dropped = 0

    def _sent(self, entry: bytes) -> bool:
        try:
            self._socket.sendto(entry, socket.MSG_NOSIGNAL, self._address)
        except OSError as error:
            if error.errno in _FULL:
                return False
            if error.errno == errno.EMSGSIZE:
                self._dropped += 1
                return True
            raise
        return True


class Handler(logging.Handler):
    """Log records as journal entries."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        fields = {"CODE_FILE": record.pathname, "CODE_LINE": str(record.lineno), "LOGGER": record.name}
        self._journal.send(fields, record.levelno, self.format(record))
