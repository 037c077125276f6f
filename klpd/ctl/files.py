# SPDX-License-Identifier: GPL-2.0-or-later
"""Opening the files that a command line names."""

from __future__ import annotations

import os

from klpd.errors import UsageError


def open_file(file: str) -> int:
    """A descriptor of `file`, open for reading; the caller closes it.  Raises UsageError where it cannot be opened."""
    try:
        # Without O_NONBLOCK a FIFO would be waited for.
        return os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        raise UsageError(f"cannot open {file}: {error.strerror}") from error
