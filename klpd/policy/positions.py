# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the keys and values of a TOML text are, which tomllib does not tell.

This follows the text just as far as it takes to know where each key and value begins.  What is TOML and what a value
means is for tomllib to say: on a text that it refuses, this stops somewhere and keeps what it has seen.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from klpd.policy.show import quoted

Path = tuple[str | int, ...]
"""The way to a value from the top: keys of tables and indices of arrays."""

DEEPEST: Final = 16
"""How long a path may be.  tomllib has no bound of its own but that of Python's stack."""
LONGEST_PLAIN: Final = 1000
"""How many characters a value without quotes may have; Python refuses to read decimal numbers of more than 4300."""

_BLANKS: Final = re.compile(r"[ \t]*")
_COMMENT: Final = re.compile(r"#[^\n]*")
_GAP: Final = re.compile(r"[ \t\n]*(?:#[^\n]*[ \t\n]*)*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN: Final = re.compile(r"[^,\]}#\n]+")
_INSIDE: Final = {
    '"""': re.compile(r'[^"\\]+|\\[\s\S]|"(?!"")'),
    "'''": re.compile(r"[^']+|'(?!'')"),
    '"': re.compile(r'[^"\\\n]+|\\.'),
    "'": re.compile(r"[^'\n]+"),
}
"""What a string goes on with, by the quotes that it begins with; the longer quotes come first."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a text, both numbers 1 based; columns count characters, a tab being one."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with a text that was given up."""

    message: str
    position: Position


class Lines:
    """Turns offsets into positions."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(each.end() for each in re.finditer("\n", text))]

    def position(self, offset: int) -> Position:
        line = bisect_right(self._starts, offset)
        return Position(line, offset - self._starts[line - 1] + 1)


class Positions:
    """The positions of a text's keys and values, and its `flaw` if it has one that tomllib would not tell well:

    nested too deep, a number too long, a key given twice.
    """

    def __init__(self, text: str) -> None:
        """Follow `text`, whose lines end in "\\n"."""
        self._lines = Lines(text)
        self._places: dict[Path, tuple[int, int]] = {}
        self.flaw: Flaw | None = None
        try:
            _Scanner(text, self._places).scan()
        except _FlawFoundError as found:
            first = "" if found.first is None else f"; the first is in line {self._lines.position(found.first).line}"
            self.flaw = Flaw(found.message + first, self._lines.position(found.offset))
        except _LostError:
            pass  # tomllib refuses the text no later than here, and says why

    def __contains__(self, path: Path) -> bool:
        return path in self._places

    def key(self, path: Path) -> Position:
        """Where the key that `path` ends in begins; that of an element of an array is where the element begins."""
        return self._lines.position(self._nearest(path)[0])

    def value(self, path: Path) -> Position:
        """Where the value at `path` begins; that of a table with a header is where the header begins."""
        return self._lines.position(self._nearest(path)[1])

    def _nearest(self, path: Path) -> tuple[int, int]:
        while path not in self._places and path:
            path = path[:-1]
        return self._places.get(path, (0, 0))


class _LostError(Exception):
    """The text goes on in a way that is not TOML."""


class _FlawFoundError(Exception):
    """Something that is wrong in a way that tomllib would not tell well; `first` is the offset of a key's first use."""

    def __init__(self, message: str, offset: int, first: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.first = first


class _Scanner:
    """Goes through a text once; `places` gets the offsets of key and value for each path."""

    def __init__(self, text: str, places: dict[Path, tuple[int, int]]) -> None:
        self._text = text
        self._at = 0
        self._places = places
        self._declared: set[Path] = set()
        self._lengths: dict[Path, int] = {}
        self._table: Path = ()

    def scan(self) -> None:
        self._skip(_GAP)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                self._header()
            else:
                self._assignment(self._table)
            self._skip(_BLANKS)
            self._skip(_COMMENT)
            if self._at < len(self._text):
                self._expect("\n")
            self._skip(_GAP)

    def _header(self) -> None:
        start = self._at
        brackets = 2 if self._text.startswith("[[", start) else 1
        self._at += brackets
        *parents, (name, at) = self._key()
        self._expect("]" * brackets)
        path = (*self._enter((), parents), name)
        if brackets == 2:
            index = self._lengths.get(path, 0)
            self._lengths[path] = index + 1
            if index == 0:
                self._note(path, at, start)
            path = (*path, index)
            at = start
        elif path in self._declared:
            raise _FlawFoundError(f"table {quoted(name)} is given twice", start, self._places[path][1])
        self._declared.add(path)
        self._note(path, at, start)
        self._table = path

    def _assignment(self, table: Path) -> None:
        *parents, (name, at) = self._key()
        path = (*self._enter(table, parents), name)
        if path in self._places:
            raise _FlawFoundError(f"{quoted(name)} is given twice", at, self._places[path][0])
        self._expect("=")
        self._skip(_BLANKS)
        self._note(path, at, self._at)
        self._value(path)

    def _enter(self, table: Path, keys: list[tuple[str, int]]) -> Path:
        """The path of the table that dotted keys lead to; of an array of tables, its last table is meant."""
        for name, at in keys:
            table = (*table, name)
            if table not in self._places:
                self._note(table, at, at)
            if table in self._lengths:
                table = (*table, self._lengths[table] - 1)
        return table

    def _note(self, path: Path, key: int, value: int) -> None:
        if len(path) > DEEPEST:
            raise _FlawFoundError(f"nested more than {DEEPEST} levels deep", key)
        self._places[path] = (key, value)

    def _key(self) -> list[tuple[str, int]]:
        """The parts of a key, each with its offset."""
        parts = []
        while True:
            self._skip(_BLANKS)
            start = self._at
            parts.append((self._key_part(), start))
            self._skip(_BLANKS)
            if not self._accept("."):
                return parts

    def _key_part(self) -> str:
        start = self._at
        if bare := _BARE_KEY.match(self._text, start):
            self._at = bare.end()
            return bare[0]
        self._string()
        quoted = self._text[start : self._at]
        if "\\" not in quoted:
            return quoted[1:-1]
        try:
            return str(tomllib.loads(f"key = {quoted}")["key"])
        except tomllib.TOMLDecodeError:
            raise _LostError from None

    def _value(self, path: Path) -> None:
        if self._text.startswith(('"', "'"), self._at):
            self._string()
        elif self._accept("["):
            self._array(path)
        elif self._accept("{"):
            self._inline_table(path)
        else:
            self._plain()

    def _plain(self) -> None:
        plain = _PLAIN.match(self._text, self._at)
        if plain is None:
            raise _LostError
        if len(plain[0]) > LONGEST_PLAIN:
            raise _FlawFoundError(f"a value of more than {LONGEST_PLAIN} characters without quotes", self._at)
        self._at = plain.end()

    def _array(self, path: Path) -> None:
        self._skip(_GAP)
        index = 0
        while not self._accept("]"):
            self._note((*path, index), self._at, self._at)
            self._value((*path, index))
            index += 1
            self._skip(_GAP)
            if not self._accept(","):
                self._expect("]")
                return
            self._skip(_GAP)

    def _inline_table(self, path: Path) -> None:
        self._skip(_GAP)
        while not self._accept("}"):
            self._assignment(path)
            self._skip(_GAP)
            if not self._accept(","):
                self._expect("}")
                return
            self._skip(_GAP)

    def _string(self) -> None:
        quotes = next((each for each in _INSIDE if self._text.startswith(each, self._at)), None)
        if quotes is None:
            raise _LostError
        self._at += len(quotes)
        while step := _INSIDE[quotes].match(self._text, self._at):
            self._at = step.end()
        self._expect(quotes)
        if len(quotes) == 3:  # the last two characters of such a string may be quotes themselves
            for _ in range(2):
                self._accept(quotes[0])

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        self._at = self._at if match is None else match.end()

    def _accept(self, what: str) -> bool:
        if not self._text.startswith(what, self._at):
            return False
        self._at += len(what)
        return True

    def _expect(self, what: str) -> None:
        if not self._accept(what):
            raise _LostError
