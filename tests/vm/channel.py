# SPDX-License-Identifier: GPL-2.0-or-later
"""The harness's end of the line to the agent: starts commands, and sorts what comes back to them."""

from __future__ import annotations

import itertools
import json
import signal
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from tests.vm.errors import CommandTimeout, HarnessError, HostDied
from tests.vm.frames import MAX_PAYLOAD, STDIN_WINDOW, Decoder, Frame, Kind, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.vm.agent import Request

T = TypeVar("T")


class Channel:
    """Speaks with the agent over ``connection``; a thread of its own reads.

    When the other side has gone, ``last_words`` says what can be said about that.
    """

    def __init__(self, connection: socket.socket, last_words: Callable[[], str]) -> None:
        self._connection = connection
        self._last_words = last_words
        self._sending = threading.Lock()
        self._commands: dict[int, RemoteCommand] = {}
        self._numbers = itertools.count(1)
        self._greeted = threading.Event()
        self._ended: str | None = None
        self._reader = threading.Thread(target=self._read, name="agent", daemon=True)
        self._reader.start()

    def greet(self, timeout: float) -> bool:
        """Wait for the agent to answer; False if it does not in ``timeout`` seconds.  Raises HostDied."""
        self.send(Frame(Kind.HELLO))
        answered = self._greeted.wait(timeout)
        if self._ended is not None:
            raise HostDied(self._ended)
        return answered

    def restart(self, reason: str) -> None:
        """Take it that the guest and its agent have started anew; commands that ran before are lost for ``reason``."""
        self._greeted.clear()
        for number, command in list(self._commands.items()):
            command.lost(reason)
            del self._commands[number]

    def set_clock(self) -> None:
        """Set the guest's real-time clock by this machine's."""
        self.send(Frame(Kind.CLOCK, 0, struct.pack("!Q", time.time_ns())))

    def start(
        self,
        request: Request,
        *,
        on_stdout: Callable[[bytes], None] | None = None,
        on_stderr: Callable[[bytes], None] | None = None,
    ) -> RemoteCommand:
        """Start a command.  Its output is kept, or given to the functions (on the reading thread)."""
        number = next(self._numbers)
        command = RemoteCommand(self, number, on_stdout, on_stderr)
        self._commands[number] = command
        self.send(Frame(Kind.START, number, json.dumps(request).encode()))
        return command

    def close(self) -> None:
        """Close the line; commands that still run count as dead."""
        with suppress(OSError):  # the other end may be gone already
            self._connection.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._connection.close()

    def send(self, frame: Frame) -> None:
        """Send one frame; raises HostDied where nobody is there any more."""
        try:
            with self._sending:
                self._connection.sendall(frame.encode())
        except OSError as error:
            raise HostDied(self._ended or f"the host ended; {self._last_words()}") from error

    def _read(self) -> None:
        decoder = Decoder()
        try:
            while data := self._connection.recv(64 * 1024):
                for frame in decoder.feed(data):
                    self._handle(frame)
            self._ended = f"the host ended; {self._last_words()}"
        except OSError as error:
            self._ended = f"the line to the host broke ({error}); {self._last_words()}"
        except ProtocolError as error:
            self._ended = f"the agent does not speak our protocol: {error}"
        self._greeted.set()
        for command in list(self._commands.values()):
            command.lost(self._ended)

    def _handle(self, frame: Frame) -> None:
        if frame.kind is Kind.HELLO:
            self._greeted.set()
        elif (command := self._commands.get(frame.command)) is not None:
            command.handle(frame)
            if frame.kind in (Kind.EXIT, Kind.REFUSED):
                del self._commands[frame.command]


class RemoteCommand:
    """A command in the guest.  All methods may be called from any thread."""

    def __init__(
        self,
        channel: Channel,
        number: int,
        on_stdout: Callable[[bytes], None] | None,
        on_stderr: Callable[[bytes], None] | None,
    ) -> None:
        self._channel = channel
        self._number = number
        self._changed = threading.Condition()
        self._output = {Kind.STDOUT: bytearray(), Kind.STDERR: bytearray()}
        self._sinks = {Kind.STDOUT: on_stdout, Kind.STDERR: on_stderr}
        self._unread_input = 0
        self._status: int | None = None
        self._refused: str | None = None
        self._lost: str | None = None

    def poll(self) -> int | None:
        """The exit status as subprocess counts (-N: killed by signal N), None while it runs.

        Raises HostDied, and HarnessError where the command could not be started at all.
        """
        with self._changed:
            if self._refused is not None:
                raise HarnessError(f"the guest could not start {self._refused}")
            if self._status is None and self._lost is not None:
                raise HostDied(self._lost)
            return self._status

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the exit status; raises CommandTimeout after ``timeout`` seconds (the command runs on)."""
        return self._wait_for(self.poll, timeout)

    def wait_for_output(self, text: str, timeout: float) -> None:
        """Wait until ``text`` has come on standard output or error.

        Raises CommandTimeout after ``timeout`` seconds, and HarnessError where the command ends without it.
        """

        def seen() -> bool | None:
            ended = self.poll()
            if any(text.encode() in output for output in self._output.values()):
                return True
            if ended is not None:
                raise HarnessError(f"the command ended ({ended}) without {text!r} on its output")
            return None

        self._wait_for(seen, timeout)

    @property
    def stdout(self) -> bytes:
        """Standard output so far (of a terminal: all output)."""
        with self._changed:
            return bytes(self._output[Kind.STDOUT])

    @property
    def stderr(self) -> bytes:
        """Standard error so far."""
        with self._changed:
            return bytes(self._output[Kind.STDERR])

    def write(self, data: bytes, timeout: float | None = None) -> None:
        """Give ``data`` to standard input, as fast as the command reads; what comes after its end is dropped."""
        for start in range(0, len(data), MAX_PAYLOAD):
            piece = data[start : start + MAX_PAYLOAD]

            def may_send(size: int = len(piece)) -> bool | None:
                return True if self.poll() is not None or self._unread_input + size <= STDIN_WINDOW else None

            self._wait_for(may_send, timeout)
            with self._changed:
                self._unread_input += len(piece)
            self._channel.send(Frame(Kind.STDIN, self._number, piece))

    def close_stdin(self) -> None:
        """Tell the command that there is no more input."""
        self._channel.send(Frame(Kind.STDIN, self._number))

    def signal(self, number: int) -> None:
        """Send a signal to the command's process group."""
        self._channel.send(Frame(Kind.SIGNAL, self._number, bytes([number])))

    def kill(self) -> None:
        """Kill the command and all of its process group."""
        self.signal(signal.SIGKILL)

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of the command's terminal."""
        self._channel.send(Frame(Kind.RESIZE, self._number, struct.pack("!HH", rows, columns)))

    def handle(self, frame: Frame) -> None:
        """Take a frame from the agent (on the reading thread)."""
        sink = self._sinks.get(frame.kind)
        if sink is not None:
            sink(frame.payload)
            return
        with self._changed:
            match frame.kind:
                case Kind.STDOUT | Kind.STDERR:
                    self._output[frame.kind] += frame.payload
                case Kind.TAKEN:
                    self._unread_input -= struct.unpack("!I", frame.payload)[0]
                case Kind.EXIT:
                    self._status = struct.unpack("!i", frame.payload)[0]
                case Kind.REFUSED:
                    self._refused = frame.payload.decode(errors="replace")
                case _:
                    raise ProtocolError(f"a command never gets {frame.kind.name}")
            self._changed.notify_all()

    def lost(self, reason: str) -> None:
        """The line is gone (on the reading thread)."""
        with self._changed:
            self._lost = reason
            self._changed.notify_all()

    def _wait_for(self, ask: Callable[[], T | None], timeout: float | None) -> T:
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while (answer := ask()) is None:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise CommandTimeout(f"the command did not get on within {timeout:g} s")
                self._changed.wait(left)
            return answer
