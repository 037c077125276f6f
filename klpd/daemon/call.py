# SPDX-License-Identifier: GPL-2.0-or-later
"""A method call that came over the bus, and the files that are handed over with it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from gi.repository import Gio, GLib

from klpd.errors import LimitError, UsageError

_LONGEST_TEXT: Final = 4096  # bytes: PATH_MAX in include/uapi/linux/limits.h
_MOST_FILES: Final = 64  # the bus lets nobody hand over more in one message: max_message_unix_fds in dbus-daemon(1)
_LONGEST_NAME: Final = 55  # include/linux/module.h: MODULE_NAME_LEN, without the NUL at the end


@dataclass(frozen=True, slots=True)
class Call:
    """A method call: who makes it, with which arguments, and whether polkit may ask somebody for it.

    `uid` is the user who made the connection `sender`.  `fds`, what was handed over, is good until the method returns;
    the files that were opened of it are the method's, unless it raises.
    """

    sender: str
    uid: int
    arguments: tuple[object, ...]
    interactive: bool
    fds: Gio.UnixFDList | None
    _opened: list[BinaryIO] = field(default_factory=list)

    def close(self) -> None:
        """Close the files that were opened."""
        for file in self._opened:
            file.close()

    def text(self, index: int) -> str:
        """The argument at `index`, which the interface declares as a string.  Raises UsageError for too long a one."""
        return self._text(index, _LONGEST_TEXT)

    def livepatch(self, index: int) -> str:
        """The name of a livepatch, which the interface declares as a string.  Raises UsageError for what is none."""
        return self._text(index, _LONGEST_NAME)

    def _text(self, index: int, longest: int) -> str:
        value = self.arguments[index]
        if not isinstance(value, str):
            raise UsageError(f"argument {index} is no string")
        if len(value) > longest:
            raise UsageError(f"argument {index} has {len(value)} characters; it can have {longest} at most")
        return value

    def file(self, index: int) -> BinaryIO:
        """The file handed over as the argument at `index`, which the interface declares as "h".

        Raises UsageError where the message carries no such descriptor, or one that is not open for reading.
        """
        return self._open(self.arguments[index])

    def files(self, index: int) -> tuple[tuple[BinaryIO, str], ...]:
        """The files, with their names, that are handed over as the argument at `index`, declared as "a(hs)".

        Raises UsageError as `file` does, and where there are none; LimitError for too many.
        """
        files = self._opened_all(self.arguments[index], f"argument {index}")
        if not files:
            raise UsageError("the call carries no files; hand over at least one")
        return files

    def files_under(self, index: int, key: str) -> tuple[tuple[BinaryIO, str], ...]:
        """The files, with their names, that are handed over as a(hs) under `key` of the options at `index`.

        There are none without such a key.  Raises UsageError as `file` does, and where it is anything else; LimitError
        for too many.
        """
        options = self.arguments[index]
        return self._opened_all(options.get(key, []) if isinstance(options, dict) else None, f"option {key}")

    def words_under(self, index: int, key: str) -> tuple[tuple[str, ...], ...]:
        """The arrays of texts, declared as aas, under `key` of the options at `index`; none without such a key.

        Raises UsageError where it is anything else, LimitError for too many.
        """
        options = self.arguments[index]
        value = options.get(key, []) if isinstance(options, dict) else None
        if not isinstance(value, list) or not all(isinstance(each, list) for each in value):
            raise UsageError(f"option {key} is no array of arrays of texts")
        if len(value) > _MOST_FILES or any(len(each) > _MOST_FILES for each in value):
            raise LimitError(f"option {key} has too many; it can have {_MOST_FILES} at most, each of {_MOST_FILES}")
        if not all(isinstance(word, str) and len(word) <= _LONGEST_TEXT for each in value for word in each):
            raise UsageError(f"option {key} is no array of arrays of texts of at most {_LONGEST_TEXT} characters")
        return tuple(tuple(each) for each in value)

    def number_under(self, index: int, key: str, default: int, most: int) -> int:
        """The number under `key` of the options at `index`, from 0 to `most`; `default` without such a key.

        Raises UsageError for anything else.
        """
        options = self.arguments[index]
        value = options.get(key, default) if isinstance(options, dict) else None
        if type(value) is not int or not 0 <= value <= most:
            raise UsageError(f"option {key} is no number from 0 to {most}")
        return value

    def _opened_all(self, handed: object, what: str) -> tuple[tuple[BinaryIO, str], ...]:
        if not isinstance(handed, list):
            raise UsageError(f"{what} is no array of files and their names")
        if len(handed) > _MOST_FILES:
            raise LimitError(f"{what} has {len(handed)} files; it can have {_MOST_FILES} at most")
        opened: list[tuple[BinaryIO, str]] = []
        for each in handed:
            match each:
                case (handle, str(name)) if len(name) <= _LONGEST_TEXT:
                    opened.append((self._open(handle), name))
                case _:
                    raise UsageError(f"{what} is no array of files and their names")
        return tuple(opened)

    def _open(self, handle: object) -> BinaryIO:
        if not isinstance(handle, int) or self.fds is None or not 0 <= handle < self.fds.get_length():
            raise UsageError("the call carries no file descriptor; hand over a file that is open for reading")
        try:
            fd = self.fds.get(handle)
        except GLib.Error as error:
            raise LimitError(f"klpd cannot take the file: {error.message}") from error
        try:
            file = os.fdopen(fd, "rb", buffering=0)
        except OSError as error:
            os.close(fd)
            raise UsageError(f"the descriptor handed over cannot be read: {error.strerror}") from error
        self._opened.append(file)
        return file
