# SPDX-License-Identifier: GPL-2.0-or-later
"""Journal entries in journald's native protocol, sent without ever waiting.

systemd.journal.send holds the interpreter lock while journald is slow to read; a process that waits for a held open
might be the very one that journald waits for.  What the socket does not take at once is kept, in order and within a
bound, and sent with the next entry; what exceeds the bound is counted and told of.

An entry has to fit into one datagram, or it would be lost: its texts are cut, JSON that is too long is left out, and a
field says so.  What the entry is about comes first.

https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from klpd.daemon.limit import Limit
from klpd.messages import JSON_FIELDS, Field, MessageId

if TYPE_CHECKING:
    from collections.abc import Mapping

SOCKET: Final = "/run/systemd/journal/socket"
_MOST: Final = 20
_SECONDS: Final = 60.0
_BACKLOG: Final = 1000
_FULL: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ECONNREFUSED, errno.ENOENT, errno.ENOTCONN})
ALERT: Final = logging.CRITICAL + 10
"""A level of the logging module for what has to be acted on at once."""

_PRIORITIES: Final = {
    ALERT: 1,
    logging.CRITICAL: 2,
    logging.ERROR: 3,
    logging.WARNING: 4,
    logging.INFO: 6,
    logging.DEBUG: 7,
}  # syslog(3)


LONGEST_JSON: Final = 48 * 1024
"""In bytes: what a field of klpd.messages.JSON_FIELDS may have.  sd_journal_get_data(3) gives 64 KiB of it."""


@dataclass(frozen=True, slots=True)
class Size:
    """How large an entry may be, in bytes: each text, each JSON, and all of it."""

    text: int
    json: int
    whole: int


_USUAL: Final = Size(text=16 * 1024, json=LONGEST_JSON, whole=160 * 1024)
"""A socket takes 208 KiB (net.core.wmem_default) at once, and journald as much as it is sent."""
_EVENT: Final = Size(text=4000, json=LONGEST_JSON, whole=160 * 1024)
"""What programs match: of texts of more than 4 KiB, journalctl shows nothing as JSON unless it is asked to."""
_LEAST: Final = Size(text=512, json=0, whole=3 * 1024)
"""Where a machine has that lower; the kernel lets nobody have less than 4.5 KiB."""
_CUT_MARK: Final = "... (cut)"


def encode(fields: Mapping[str, str], size: Size = _USUAL) -> bytes:
    """One entry: NAME=value lines, with the binary form for values that hold newlines."""
    parts: list[bytes] = []
    cut = fields.get(Field.CUT.value, "").split()
    room = size.whole
    for name, value in fields.items():
        if name == Field.CUT:
            continue
        given = value.encode("utf-8", "backslashreplace")
        data = _fitting(given, min(size.json if name in JSON_FIELDS else size.text, room), whole=name in JSON_FIELDS)
        if data != given:
            cut += () if name in cut else (name,)
        if data is not None:
            parts.append(_line(name, data))
            room = max(0, room - len(parts[-1]))
    if cut:
        parts.append(_line(Field.CUT.value, " ".join(cut).encode()))
    return b"".join(parts)


def _fitting(data: bytes, room: int, *, whole: bool) -> bytes | None:
    """As much of `data` as there is room for; None where that is not all, and it has to be `whole`."""
    if len(data) <= room:
        return data
    if whole:
        return None
    mark = _CUT_MARK.encode()
    return data[: max(0, room - len(mark))].decode("utf-8", "ignore").encode() + mark


def _line(name: str, data: bytes) -> bytes:
    if b"\n" in data:
        return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
    return name.encode() + b"=" + data + b"\n"


class Journal:
    """A sender of entries; safe to use from any thread."""

    def __init__(self, address: str = SOCKET) -> None:
        self._address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.settimeout(0)
        self._lock = threading.Lock()
        self._backlog: deque[Mapping[str, str]] = deque()
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
            self._backlog.append({**head, **fields})
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
            if self._sent(lost):
                self._dropped = 0

    def _sent(self, entry: Mapping[str, str]) -> bool:
        for size in (_EVENT if "MESSAGE_ID" in entry else _USUAL, _LEAST):
            try:
                self._socket.sendto(encode(entry, size), socket.MSG_NOSIGNAL, self._address)
            except OSError as error:
                if error.errno in _FULL:
                    return False
                if error.errno != errno.EMSGSIZE:
                    raise
            else:
                return True
        self._dropped += 1
        return True


class Handler(logging.Handler):
    """Log records as journal entries: of those that one line of code makes, so many in a time, and then their number.

    What is logged at DEBUG is not bounded: somebody asked for it.
    """

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal
        self._limit: Limit[tuple[str, str]] = Limit(_MOST, _SECONDS)

    def emit(self, record: logging.LogRecord) -> None:
        now = time.monotonic()
        kind = record.name, str(record.msg)
        self._tell(self._limit.ended(now))
        if record.levelno <= logging.DEBUG or self._limit.admits(kind, now):
            fields = {"CODE_FILE": record.pathname, "CODE_LINE": str(record.lineno), "LOGGER": record.name}
            self._journal.send(fields, record.levelno, self.format(record))

    def flush(self) -> None:
        """Tell of what was withheld and has not been told of, where its time is over."""
        with self.lock or nullcontext():
            self._tell(self._limit.ended(time.monotonic()))

    def close(self) -> None:
        """Tell of all that was withheld."""
        self._tell(self._limit.end())
        super().close()

    def _tell(self, withheld: Mapping[tuple[str, str], int]) -> None:
        for (logger, text), number in withheld.items():
            fields = {Field.COUNT.value: str(number), "LOGGER": logger}
            message = f'{number} more messages like this were withheld within {self._limit.seconds:g} s: "{text}"'
            self._journal.event(MessageId.WITHHELD, logging.WARNING, message, fields)
