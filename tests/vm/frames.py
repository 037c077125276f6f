# SPDX-License-Identifier: GPL-2.0-or-later
"""The protocol between harness and agent: frames on a byte stream, several commands side by side.

A frame is a kind, the number of the command that it belongs to, and at most MAX_PAYLOAD bytes.  The harness numbers
the commands.  Only standard input needs a window (a command may never read it, and the agent must not hoard): the
harness has at most STDIN_WINDOW bytes under way for one command, and TAKEN gives bytes back.  Output needs none: the
harness always reads, and the agent reads commands no faster than the port takes their output.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PAYLOAD: Final = 32 * 1024
STDIN_WINDOW: Final = 256 * 1024

_HEADER: Final = struct.Struct("!BII")


class Kind(IntEnum):
    """What a frame says.  Payloads are raw bytes unless noted."""

    HELLO = 1  # both ways: the harness asks, the agent answers when it is there
    CLOCK = 2  # to the agent: set the real-time clock; u64 nanoseconds since the epoch
    START = 3  # to the agent: begin a command; JSON, see agent.Request
    STDIN = 4  # to the agent; no bytes = end of input
    SIGNAL = 5  # to the agent: signal the command's process group; u8 number
    RESIZE = 6  # to the agent: the terminal's new size; two u16: rows, columns
    TAKEN = 7  # to the harness: so many bytes of STDIN are used up; u32
    STDOUT = 8  # to the harness; a terminal's output comes as STDOUT, too
    STDERR = 9  # to the harness
    EXIT = 10  # to the harness, the command's last frame: i32, as subprocess counts (-N: killed by signal N)
    REFUSED = 11  # to the harness, the command's only frame: it could not be started; UTF-8 text


class ProtocolError(Exception):
    """The byte stream is no sequence of frames."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message; ``command`` is 0 where it belongs to none."""

    kind: Kind
    command: int = 0
    payload: bytes = b""

    def encode(self) -> bytes:
        """The frame as it goes over the wire."""
        if len(self.payload) > MAX_PAYLOAD:
            raise ProtocolError(f"a payload of {len(self.payload)} bytes; at most {MAX_PAYLOAD} are allowed")
        return _HEADER.pack(self.kind, self.command, len(self.payload)) + self.payload


class Decoder:
    """Cuts a byte stream, fed in pieces of any size, into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Give the frames that ``data`` completes; raises ProtocolError on bytes that can start no frame."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            kind, command, length = _HEADER.unpack_from(self._buffer)
            if kind not in _KINDS or length > MAX_PAYLOAD:
                raise ProtocolError(f"no frame starts with {bytes(self._buffer[: _HEADER.size])!r}")
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield Frame(Kind(kind), command, payload)


_KINDS: Final = frozenset(int(kind) for kind in Kind)
