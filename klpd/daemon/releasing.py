# SPDX-License-Identifier: GPL-2.0-or-later
"""klpd's side of klpd-release: hands over the hold's group, and sees to it that the process answers.

That process keeps the group as long as it is connected.  So one that does not answer is ended, for systemd to start
another: a group that it kept beyond klpd's end would hold everybody for ever.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import struct
from typing import TYPE_CHECKING, Final

from klpd.daemon.release import PING, SOCKET

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.daemon.lateness import Page
    from klpd.daemon.loop import Loop

log = logging.getLogger(__name__)

_FIRST_WORD: Final = 3.0
"""Seconds for it to greet."""
_LAST_WORD: Final = 1.0
"""The same when klpd ends."""
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 10.0
_CREDENTIALS: Final = struct.Struct("=iII")  # struct ucred in socket(7)


class Releasing:
    """The connection, made anew whenever it is lost; to be used on the loop's thread."""

    def __init__(self, loop: Loop, group: int, page: Page, path: str = SOCKET) -> None:
        self._loop = loop
        self._group = group
        self._page = page
        self._path = path
        self._connection: socket.socket | None = None
        self._end_watch: Callable[[], None] = lambda: None
        self._greeted = False
        self._heard = False
        self._pause = _FIRST_PAUSE
        self._told = False
        self._closed = False

    @property
    def connected(self) -> bool:
        """Whether somebody else lets those go on whom klpd keeps waiting; may be asked on any thread."""
        return self._connection is not None and self._greeted

    @property
    def missing(self) -> bool:
        """Whether it was not there when it was looked for."""
        return self._told

    def start(self) -> None:
        """Connect, now and whenever the connection is lost."""
        try:
            connection = self._connect()
        except OSError as error:
            self._not_connected(error)
            return
        self._connection, self._greeted, self._heard = connection, False, True
        self._end_watch = self._loop.watch(connection.fileno(), self._hear)
        self._loop.after(_FIRST_WORD, lambda: self._check_greeted(connection))

    def ping(self) -> None:
        """Ask whether it is well; to be called now and then.  One that did not answer the last time is ended."""
        if self._connection is None:
            return
        if not self._heard:
            self._end_other(self._connection)
            return
        self._heard = False
        try:
            self._connection.send(PING)
        except OSError:
            self._end_other(self._connection)

    def close(self) -> None:
        """Have it let go of the group, which it does unless it hangs."""
        self._closed = True
        if self._connection is None:
            return
        self._end_watch()
        self._connection.settimeout(_LAST_WORD)
        try:
            self._connection.send(PING)
            self._connection.recv(64)
        except OSError:
            self._end_other(self._connection)
        self._connection.close()
        self._connection = None

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            connection.settimeout(0)
            connection.connect(self._path)
            socket.send_fds(connection, [b"group"], [self._group, self._page.fd])
        except OSError:
            connection.close()
            raise
        return connection

    def _check_greeted(self, connection: socket.socket) -> None:
        if connection is self._connection and not self._greeted:
            self._end_other(connection)

    def _hear(self) -> None:
        if self._connection is None:
            return
        try:
            heard = self._connection.recv(64)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        if heard:
            self._greeted = self._heard = True
            self._pause = _FIRST_PAUSE
            if self._told:
                self._told = False
                log.warning("klpd-release is there again")
            return
        self._end_watch()
        self._connection.close()
        self._connection = None
        self._not_connected(None)

    def _not_connected(self, error: OSError | None) -> None:
        if self._closed:
            return
        if not self._told:
            self._told = True
            log.warning(
                "klpd-release is not there%s: who opens module files would wait for klpd if that hung; "
                "see systemctl status klpd-release",
                "" if error is None else f" ({error.strerror})",
            )
        self._loop.after(self._pause, self._again)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _again(self) -> None:
        if not self._closed and self._connection is None:
            self.start()

    def _end_other(self, connection: socket.socket) -> None:
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, _uid, _gid = _CREDENTIALS.unpack(credentials)
        log.error("klpd-release (process %d) does not answer, and is killed, to be started anew", pid)
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError as error:
            log.error("klpd-release cannot be killed: %s", error.strerror)
