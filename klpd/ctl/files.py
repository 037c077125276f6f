# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening the files that a command line names."""

from __future__ import annotations

import os
from typing import Final

from klpd.errors import UsageError

STANDARD_INPUT: Final = "-"
"""The name by which a command line means it."""
_CHUNK: Final = 1 << 20


def open_file(file: str) -> int:
    """A descriptor of `file`, open for reading; the caller closes it.  Raises UsageError where it cannot be opened.

    Standard input is read to its end first: klpd takes nothing but files whose bytes are there already.
    """
    if file == STANDARD_INPUT:
        return _standard_input()
    try:
        # Without O_NONBLOCK a FIFO would be waited for.
        return os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise UsageError(f"cannot open {file}: {error.strerror}") from error


def _standard_input() -> int:
    from klpd.files import LARGEST_MODULE

    fd = os.memfd_create("standard input", os.MFD_CLOEXEC)
    size = 0
    try:
        # One byte too many is enough for whoever reads the file to refuse it.
        while size <= LARGEST_MODULE and (part := os.read(0, _CHUNK)):
            size += os.write(fd, part)
    except OSError as error:
        os.close(fd)
        raise UsageError(f"cannot read standard input: {error.strerror}") from error
    if size == 0:
        os.close(fd)
        raise UsageError("standard input is empty, or was read before")
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def name_of(file: str) -> str:
    """How messages call it."""
    return "standard input" if file == STANDARD_INPUT else file
