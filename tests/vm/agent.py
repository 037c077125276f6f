# SPDX-License-Identifier: GPL-2.0-or-later
"""The program inside the guest that runs the harness's commands: one thread, one virtio-serial port, many commands.

It needs nothing but the standard library and the port, neither D-Bus nor a login: it is there as soon as systemd
starts services, and still there when the system under test is broken.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import pwd
import select
import signal
import struct
import subprocess
import termios
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypedDict

from tests.vm.frames import MAX_PAYLOAD, Decoder, Frame, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

PORT_NAME: Final = "org.klpd.test"
OUTBOX_LIMIT: Final = 256 * 1024  # bytes for the harness; above it no command's output is read
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Request(TypedDict):
    """The payload of a START frame."""

    argv: list[str]
    user: str
    cwd: str | None  # None: the user's home
    env: dict[str, str]  # on top of the agent's few variables
    tty: list[int] | None  # [rows, columns], or None for three pipes


@dataclass(slots=True)
class Command:
    """A running command.  With a terminal, ``stdin`` and ``stdout`` are one file, and there is no ``stderr``."""

    number: int
    process: subprocess.Popen[bytes]
    pidfd: int
    outputs: dict[int, Kind]  # open file -> the kind of frame that its bytes become
    stdin: int | None
    tty: int | None
    inbox: bytearray = field(default_factory=bytearray)
    input_ended: bool = False
    exited: bool = False


class Agent:
    """Reads frames from ``port``, does what they say, writes what commands have to say."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._decoder = Decoder()
        self._outbox = bytearray()
        self._commands: dict[int, Command] = {}

    def serve(self) -> None:
        """Serve for ever.  Raises ProtocolError where the other side speaks another protocol."""
        while True:
            self._turn()

    def _turn(self) -> None:
        """Wait for what can go on, and do it.

        The poll set is made anew each time: it is small, and files that must not be looked at now (poll reports a
        hang-up whether it was asked for or not) are just left out.
        """
        poll = select.poll()
        actions: dict[int, Callable[[], None]] = {self._port: self._exchange}
        poll.register(self._port, select.POLLIN | (select.POLLOUT if self._outbox else 0))
        room = len(self._outbox) < OUTBOX_LIMIT
        for command in self._commands.values():
            wanted: dict[int, int] = {}
            if room or not command.exited:  # readable for ever once it exited: what is left then is to drain
                wanted[command.pidfd] = select.POLLIN
            if room:
                for file in command.outputs:
                    wanted[file] = select.POLLIN
            if command.stdin is not None and command.inbox:
                wanted[command.stdin] = wanted.get(command.stdin, 0) | select.POLLOUT
            for file, events in wanted.items():
                poll.register(file, events)
                actions[file] = lambda command=command: self._advance(command)  # type: ignore[misc]
        for file, _ in poll.poll():
            actions[file]()

    def _exchange(self) -> None:
        """Read from the port and write to it, as far as it goes."""
        try:
            data = os.read(self._port, 64 * 1024)
        except BlockingIOError:
            pass
        else:
            if not data:  # nobody is connected
                time.sleep(0.02)
            for frame in self._decoder.feed(data):
                self._handle(frame)
        if self._outbox:
            with suppress(BlockingIOError):
                del self._outbox[: os.write(self._port, self._outbox[:MAX_PAYLOAD])]

    def _send(self, kind: Kind, command: int = 0, payload: bytes = b"") -> None:
        self._outbox += Frame(kind, command, payload).encode()

    def _handle(self, frame: Frame) -> None:
        match frame.kind:
            case Kind.HELLO:
                self._send(Kind.HELLO)
                return
            case Kind.CLOCK:
                time.clock_settime_ns(time.CLOCK_REALTIME, struct.unpack("!Q", frame.payload)[0])
                return
            case Kind.START:
                self._start(frame.command, json.loads(frame.payload))
                return
            case _:
                pass
        command = self._commands.get(frame.command)
        if command is None:  # it ended while the frame was under way
            return
        match frame.kind:
            case Kind.STDIN:
                command.inbox += frame.payload
                command.input_ended = command.input_ended or not frame.payload
                self._advance(command)
            case Kind.SIGNAL:
                if not command.exited:
                    os.killpg(command.process.pid, frame.payload[0])
            case Kind.RESIZE:
                if command.tty is not None:
                    _resize(command.tty, *struct.unpack("!HH", frame.payload))
            case _:
                pass

    def _start(self, number: int, request: Request) -> None:
        try:
            self._commands[number] = start(number, request)
        except (OSError, KeyError, ValueError) as error:
            self._send(Kind.REFUSED, number, f"{request['argv'][0]}: {error}".encode()[:MAX_PAYLOAD])

    def _advance(self, command: Command) -> None:
        """Move the command's input and output as far as possible, and end it when it is over."""
        if command.number not in self._commands:  # ended by an earlier event of the same turn
            return
        self._feed(command)
        if not command.exited:
            command.exited = command.process.poll() is not None
        idle = self._drain(command)
        # What a command leaves behind in the background may keep the pipes open: its exit is the end, after all that
        # is in the pipes at that time.
        if command.exited and idle:
            self._send(Kind.EXIT, command.number, struct.pack("!i", command.process.returncode))
            for file in {command.pidfd, command.stdin, command.tty, *command.outputs} - {None}:
                os.close(file)  # type: ignore[arg-type]
            del self._commands[command.number]

    def _feed(self, command: Command) -> None:
        if command.inbox:
            taken = len(command.inbox)
            if command.stdin is not None:
                try:
                    taken = os.write(command.stdin, command.inbox)
                except BlockingIOError:
                    taken = 0
                except OSError:  # nobody reads any more (EPIPE, EIO): as good as taken
                    pass
            if taken:
                del command.inbox[:taken]
                self._send(Kind.TAKEN, command.number, struct.pack("!I", taken))
        if command.input_ended and not command.inbox and command.stdin is not None and command.tty is None:
            os.close(command.stdin)
            command.stdin = None

    def _drain(self, command: Command) -> bool:
        """Send on what the command has written; tell whether there is nothing left for now."""
        idle = True
        for file, kind in list(command.outputs.items()):
            while True:
                if len(self._outbox) >= OUTBOX_LIMIT:
                    idle = False
                    break
                try:
                    data = os.read(file, MAX_PAYLOAD)
                except BlockingIOError:
                    break
                except OSError:  # a terminal without processes gives EIO
                    data = b""
                if not data:
                    del command.outputs[file]
                    if file != command.tty:
                        os.close(file)
                    break
                self._send(kind, command.number, data)
        return idle


def start(number: int, request: Request) -> Command:
    """Start a command in a session of its own; raises OSError, KeyError (unknown user) or ValueError."""
    user = pwd.getpwnam(request["user"])
    environment = {
        "PATH": PATH,
        "LANG": "C.UTF-8",
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "SHELL": user.pw_shell,
        **request["env"],
    }
    terminal = None
    prepare = None
    if request["tty"] is not None:
        terminal, inner = os.openpty()
        _resize(terminal, *request["tty"])
        os.fchown(inner, user.pw_uid, -1)
        prepare = _take_terminal
        files = (inner, inner, inner)
    else:
        files = (subprocess.PIPE, subprocess.PIPE, subprocess.PIPE)
    try:
        process = subprocess.Popen(
            request["argv"],
            stdin=files[0],
            stdout=files[1],
            stderr=files[2],
            bufsize=0,
            cwd=request["cwd"] if request["cwd"] is not None else user.pw_dir,
            env=environment,
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=os.getgrouplist(user.pw_name, user.pw_gid),
            start_new_session=True,
            preexec_fn=prepare,  # noqa: PLW1509  the agent has one thread
        )
    except BaseException:
        if terminal is not None:
            os.close(terminal)
        raise
    finally:
        if terminal is not None:
            os.close(files[0])
    pidfd = os.pidfd_open(process.pid)
    if terminal is not None:
        os.set_blocking(terminal, False)
        return Command(number, process, pidfd, {terminal: Kind.STDOUT}, terminal, terminal)
    stdin, stdout, stderr = (_detach(stream) for stream in (process.stdin, process.stdout, process.stderr))
    return Command(number, process, pidfd, {stdout: Kind.STDOUT, stderr: Kind.STDERR}, stdin, None)


def _detach(stream: object) -> int:
    """The file of one of Popen's pipes, non-blocking, no longer Popen's."""
    assert isinstance(stream, io.RawIOBase)
    file = os.dup(stream.fileno())
    stream.close()
    os.set_blocking(file, False)
    return file


def _take_terminal() -> None:
    """In the new process, already leader of its session: make standard input its controlling terminal."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _resize(terminal: int, rows: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def find_port(name: str) -> Path:
    """Wait for the virtio-serial port ``name`` (its driver may still be loading) and give its device file."""
    while True:
        for label in Path("/sys/class/virtio-ports").glob("*/name"):
            if label.read_text().strip() == name:
                return Path("/dev") / label.parent.name
        time.sleep(0.05)


def main() -> None:
    """Serve the harness; systemd starts this anew if it ever ends."""
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    port = os.open(find_port(PORT_NAME), os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    Agent(port).serve()


if __name__ == "__main__":
    main()
