# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's log, for what it says of livepatches: the errors of finit_module(2) have several causes each.

Documentation/ABI/testing/dev-kmsg: each read gives one record, "PRIORITY,SEQUENCE,MICROSECONDS,FLAGS;TEXT\\n", and
lines of a dictionary, which begin with a blank.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_FILE: Final = "/dev/kmsg"
_PREFIX: Final = "livepatch: "
_LARGEST: Final = 8192  # a smaller buffer than the record is EINVAL
_MOST: Final = 1000
_WARNING: Final = 4  # LOG_KERN | LOG_WARNING of syslog(3): what goes well is a notice, programs are LOG_USER


class KernelLog:
    """What comes into the log from now on.  Where it may not be read, nothing does."""

    def __init__(self, file: str = _FILE) -> None:
        self._closing = ExitStack()
        self._fd: int | None = None
        with suppress(OSError):  # it is an ornament to an error that is told in any case
            self._fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._closing.callback(os.close, self._fd)
            os.lseek(self._fd, 0, os.SEEK_END)

    def __enter__(self) -> KernelLog:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._closing.close()

    def complaints(self) -> tuple[str, ...]:
        """What the livepatch core has warned of since the last call, without its prefix."""
        records = (record.decode("utf-8", "backslashreplace").partition(";") for record in self._records())
        return tuple(
            text.partition("\n")[0].removeprefix(_PREFIX)
            for head, _, text in records
            if text.startswith(_PREFIX) and _priority(head) <= _WARNING
        )

    def _records(self) -> Iterator[bytes]:
        for _ in range(_MOST):
            try:
                record = b"" if self._fd is None else os.read(self._fd, _LARGEST)
            except BrokenPipeError:
                continue  # the oldest records were overwritten before they could be read
            except OSError:
                return
            if not record:
                return
            yield record


def _priority(head: str) -> int:
    """Of the part of a record before its text."""
    priority = head.partition(",")[0]
    return int(priority) if priority.isdecimal() else _WARNING + 1
