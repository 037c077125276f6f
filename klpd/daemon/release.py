# SPDX-License-Identifier: GPL-2.0-or-later
"""klpd-release: lets those go on whom klpd holds and does not answer in time, whatever keeps klpd from it.

klpd hands over its notification group and a page that tells how it does (klpd.daemon.lateness).  Whoever has the group
may read its events and answer them.  Where klpd is stopped, hangs, or has no descriptor or memory left, this process
lets everybody go on, and keeps the group for no longer than klpd lives.  It judges nothing, opens no file, and sleeps
while nobody is held: the guard refuses what klpd has not approved, whoever was let go on.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klpd.daemon.lateness import Lateness, Page
from klpd.daemon.notify import notify

if TYPE_CHECKING:
    from types import FrameType

SOCKET: Final = "/run/klpd/release"
PING: Final = b"ping"
_LOOKS: Final = 250
"""Milliseconds between looks while somebody waits."""
_TAKES: Final = 1.0
"""Seconds for the kernel to open a file for an event, which may have to wait for others."""
_METADATA: Final = struct.Struct("=IBBHQii")  # struct fanotify_event_metadata in include/uapi/linux/fanotify.h
_RESPONSE: Final = struct.Struct("=iI")  # struct fanotify_response
_ALLOW: Final = 0x1
_CREDENTIALS: Final = struct.Struct("=iII")  # struct ucred in socket(7)
_MOST_AT_ONCE: Final = 1000


class Group:
    """A notification group of the process `pid`, as far as letting go those whom it holds needs it."""

    def __init__(self, fd: int, pid: int) -> None:
        self.fd = fd
        self._pid = pid
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def unread(self) -> bool:
        """Whether events are there to be read."""
        return bool(self._poll.poll(0))

    def let_all_go(self) -> int:
        """Let everybody go on; how many those were."""
        return self._let_unread_go() + self._let_read_go()

    def _let_unread_go(self) -> int:
        gone = 0
        while gone < _MOST_AT_ONCE:
            signal.setitimer(signal.ITIMER_REAL, _TAKES)
            try:
                event = os.read(self.fd, _METADATA.size)
            except BlockingIOError:
                break
            except OSError:
                gone += 1  # the kernel has refused the opener, and taken the event from the queue
                continue
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            *_rest, fd, _pid = _METADATA.unpack(event)
            if fd >= 0:
                gone += self._allow(fd)
                os.close(fd)
        return gone

    def _let_read_go(self) -> int:
        """Those whose events klpd has read: it has a descriptor for each, whose number is the key to the answer."""
        try:
            numbers = [int(each.name) for each in Path(f"/proc/{self._pid}/fd").iterdir()]
        except OSError:
            return 0  # it has just ended, and nobody is held
        return sum(self._allow(each) for each in numbers)

    def _allow(self, number: int) -> int:
        """Answer every event with this number: klpd and this process may each have one."""
        gone = 0
        with suppress(FileNotFoundError):
            while True:
                os.write(self.fd, _RESPONSE.pack(number, _ALLOW))
                gone += 1
        return gone


class _Klpd:
    """klpd, connected, with what it has handed over."""

    def __init__(self, connection: socket.socket, group: Group, page: Page) -> None:
        self.connection = connection
        self.group = group
        self.page = page
        self.lateness = Lateness()
        self._gone = 0

    def look(self) -> None:
        """Let everybody go on if klpd is late."""
        was_late = self.lateness.late
        if self.lateness.look(self.page.told(), unread=self.group.unread(), now=time.monotonic_ns()):
            self._gone += self.group.let_all_go()
            if not was_late:
                _say("klpd does not answer in time: who opens module files goes on without a verdict")
        if was_late and not self.lateness.late:
            _say(f"klpd answers again; {self._gone} opens went on without a verdict")
            self._gone = 0

    def close(self) -> None:
        os.close(self.group.fd)
        self.page.close()
        self.connection.close()


class Release:
    """Serves one klpd after another."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._klpd: _Klpd | None = None

    def serve(self) -> None:
        """Serve, for ever."""
        while True:
            self._serve_once()

    def _serve_once(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        pause = None
        klpd = self._klpd
        if klpd is not None:
            poll.register(klpd.connection, select.POLLIN)
            if klpd.lateness.at_ease(klpd.page.told(), unread=klpd.group.unread()):
                poll.register(klpd.group.fd, select.POLLIN)
            else:
                pause = _LOOKS
        ready = {fd for fd, _events in poll.poll(pause)}
        if klpd is not None and klpd.connection.fileno() in ready:
            self._hear(klpd)
        if self._klpd is not None:
            self._klpd.look()
        if self._listener.fileno() in ready:
            self._accept()

    def _hear(self, klpd: _Klpd) -> None:
        try:
            heard = klpd.connection.recv(64)
            if heard:
                klpd.connection.send(heard)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        if not heard:
            self._klpd = None
            klpd.close()  # and so nobody is held whom klpd has left

    def _accept(self) -> None:
        connection, _address = self._listener.accept()
        connection.settimeout(_TAKES)
        try:
            _sent, fds, _flags, _from = socket.recv_fds(connection, 64, 2)
        except OSError:
            fds = []
        if len(fds) != 2:
            for fd in fds:
                os.close(fd)
            connection.close()
            return
        connection.settimeout(0)
        if self._klpd is not None:
            self._klpd.close()
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, _uid, _gid = _CREDENTIALS.unpack(credentials)
        self._klpd = _Klpd(connection, Group(fds[0], pid), Page(fds[1]))
        with suppress(OSError):
            connection.send(PING)


def _say(sentence: str) -> None:
    """Write to the journal, or nothing where that would have to be waited for."""
    with suppress(OSError):
        os.write(sys.stderr.fileno(), f"<4>{sentence}\n".encode())


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise InterruptedError


def main() -> int:
    """Listen for klpd at SOCKET, for which only root can ask."""
    signal.signal(signal.SIGALRM, _interrupted)
    os.set_blocking(sys.stderr.fileno(), False)
    os.umask(0o077)
    Path(SOCKET).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as listener:
        listener.bind(SOCKET)
        listener.listen()
        notify("READY=1")
        Release(listener).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
