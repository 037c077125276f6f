# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening the files that a command line names."""

from __future__ import annotations

import os
import stat

from klpd.errors import UsageError


def open_module(file: str) -> int:
    """A descriptor of the regular file `file`, open for reading; the caller closes it.

    Raises UsageError where there is none that can be read.
    """
    try:
        # Without O_NONBLOCK a FIFO would be waited for.
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise UsageError(f"cannot open {file}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise UsageError(f"{file} is no regular file")
    return fd
