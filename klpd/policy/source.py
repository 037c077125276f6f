# SPDX-License-Identifier: GPL-2.0-or-later
"""A policy file or a manifest as TOML: its values and where each of them is."""

from __future__ import annotations

import ast
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from klpd.errors import PolicyError
from klpd.files import read_at_most
from klpd.policy.ownership import ROOT, reach, unreadable
from klpd.policy.positions import Lines, Positions
from klpd.policy.show import quoted, shortened, shown

if TYPE_CHECKING:
    from pathlib import Path

LARGEST: Final = 1 << 20
"""In bytes."""
_LONGEST_MESSAGE: Final = 200
"""tomllib repeats some keys in what it says."""
_BOM: Final = "\ufeff"
_REWORDED: Final = {
    "Cannot declare": "cannot begin here: earlier lines have it, or what it is in, by a header, a key or a value",
    "Cannot mutate immutable namespace": "cannot be added to: earlier lines have it, or what it is in, as a value",
    "Cannot redefine namespace": "is a table with a header of its own; put the key under that",
}
_TUPLE: Final = re.compile(rf"({'|'.join(_REWORDED)}) (\(.*\))(?: twice)?", re.DOTALL)
_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


@dataclass(frozen=True, slots=True)
class Source:
    """One file; `file` is its name as people are told it."""

    file: str
    values: Mapping[str, object]
    positions: Positions


def read_source(path: Path, owner: int | None = ROOT) -> Source:
    """Read a file.  Raises PolicyError where it cannot be read or is no TOML, or others could change it (`reach`)."""
    reach(path, owner)
    file = shown(path)
    try:
        fd = open_source(path)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        return parse(decode(read_open(fd, file), file), file)
    finally:
        os.close(fd)


def open_source(path: Path) -> int:
    """Open a file for `read_open`.  Raises OSError."""
    # Without O_NONBLOCK a FIFO would be waited for.
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)


def read_open(fd: int, file: str) -> bytes:
    """What is in the file behind `fd`, wherever its offset is.  Raises PolicyError."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise PolicyError("not a regular file", file=file)
    try:
        data = read_at_most(fd, LARGEST + 1)
    except OSError as error:
        raise PolicyError(f"cannot be read: {error.strerror}", file=file) from error
    if len(data) > LARGEST:
        raise PolicyError(f"larger than {LARGEST >> 20} MiB, which no such file is", file=file)
    return data


def parse(text: str, file: str) -> Source:
    """What `text` says as TOML.  Raises PolicyError with line and column where it is none."""
    text = text.replace("\r\n", "\n")  # as tomllib does
    if text.startswith(_BOM):
        raise PolicyError("begins with a byte order mark; save it as UTF-8 without one", file=file, line=1, column=1)
    positions = Positions(text)
    if positions.flaw is not None:
        at = positions.flaw.position
        raise PolicyError(positions.flaw.message, file=file, line=at.line, column=at.column)
    try:
        return Source(file, tomllib.loads(text), positions)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(str(error), text, file) from error


def decode(data: bytes, file: str) -> str:
    """The text that `data` is.  Raises PolicyError with line and column where it is none."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        at = Lines(before).position(len(before))
        raise PolicyError("not UTF-8", file=file, line=at.line, column=at.column) from error


def _reworded(message: str) -> str:
    """What tomllib says, but keys as people write them: it names them by Python's tuples."""
    found = _TUPLE.fullmatch(message)
    if found is None:
        return message
    key = ".".join(ast.literal_eval(found[2]))
    return f"{quoted(key)} {_REWORDED[found[1]]}"


def _syntax_error(message: str, text: str, file: str) -> PolicyError:
    place = _PLACE.search(message)
    if place is None:
        return PolicyError(f"no TOML: {shortened(message, _LONGEST_MESSAGE)}", file=file)
    end = Lines(text).position(len(text))
    line, column = (end.line, end.column) if place[1] is None else (int(place[1]), int(place[2]))
    what = shortened(_reworded(message[: place.start()]), _LONGEST_MESSAGE)
    return PolicyError(f"no TOML: {what}", file=file, line=line, column=column)
