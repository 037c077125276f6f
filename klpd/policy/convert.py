# SPDX-License-Identifier: GPL-2.0-or-later
"""What values may be: functions from what tomllib returns to what is meant, each of which raises Misfit.

They know nothing of files; `klpd.policy.check` adds where the value is.
"""

from __future__ import annotations

import os
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final, TypeVar

from klpd.judge.patterns import LONGEST as LONGEST_PATTERN
from klpd.judge.patterns import Pattern
from klpd.model import LARGEST_ID, LARGEST_VERSION
from klpd.policy.durations import parse_duration
from klpd.policy.show import quoted
from klpd.policy.versions import exactly, parse_versions

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.judge.rules import VersionRange
    from klpd.policy.positions import Path

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_KINDS: Final = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    list: "an array",
    dict: "a table",
}


LONGEST_TEXT: Final = 300
"""In characters: what people are to read goes into the journal, onto the bus and to terminals, each time it counts."""
_LONGEST_PATH: Final = 4095
"""PATH_MAX without the NUL."""


class Misfit(ValueError):
    """A value is not what it should be; `path` leads from it to the part of it that is wrong.

    `others` are further parts that are.
    """

    def __init__(self, message: str, path: Path = (), others: tuple[Misfit, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.others = others

    @property
    def all(self) -> tuple[Misfit, ...]:
        """This one and the others."""
        return (self, *self.others)


def kind_of(value: object) -> str:
    """What a value is, in TOML's words."""
    return _KINDS.get(type(value), "a date or time")


def string(value: object) -> str:
    return _typed(value, str)


def boolean(value: object) -> bool:
    return _typed(value, bool)


def text(value: object) -> str:
    """A string for people to read."""
    return _line(value, LONGEST_TEXT)


def absolute_path(value: object) -> str:
    """A path from the root directory."""
    given = _line(value, _LONGEST_PATH)
    if not given.startswith("/"):
        raise Misfit(f"expected an absolute path, found {quoted(given)}")
    return given


def _line(value: object, longest: int) -> str:
    given = string(value)
    if len(given) > longest:
        raise Misfit(f"has {len(given)} characters; at most {longest} are taken")
    if not given.strip():
        raise Misfit("is empty")
    if not given.isprintable():
        raise Misfit("has to be one line of printable characters")
    return given


def choice(kind: type[E]) -> Callable[[object], E]:
    """One of the words of an enumeration."""

    def convert(value: object) -> E:
        given = string(value)
        try:
            return kind(given)
        except ValueError:
            words = " or ".join(quoted(each) for each in kind)
            raise Misfit(f"expected {words}, found {quoted(given)}") from None

    return convert


def duration(*, longest: str, shortest: str | None = None) -> Callable[[object], float]:
    """A time span of at least `shortest` (None: more than nothing) and at most `longest`, in seconds."""
    bound = parse_duration(longest)
    least = 0.0 if shortest is None else parse_duration(shortest)
    wanted = "more than 0" if shortest is None else f"at least {shortest}"

    def convert(value: object) -> float:
        if type(value) in (int, float):
            raise Misfit('a time span is a string with a unit, such as "90s"')
        given = string(value)
        try:
            seconds = parse_duration(given)
        except ValueError as error:
            raise Misfit(f"{error}, found {quoted(given)}") from None
        if not (seconds > 0 and least <= seconds <= bound):
            raise Misfit(f"expected {wanted} and at most {longest}, found {quoted(given)}")
        return seconds

    return convert


def state_id(value: object) -> int:
    """A klp_state id.  0 is none: it ends the kernel's array of states (klp_for_each_state)."""
    given = _typed(value, int)
    if not 0 < given <= LARGEST_ID:
        raise Misfit(f"a state id is a number from 1 to {LARGEST_ID:#x}")
    return given


def version(value: object) -> int:
    """One version of a state."""
    given = _typed(value, int)
    if not 0 <= given <= LARGEST_VERSION:
        raise Misfit(f"a version is a number from 0 to {LARGEST_VERSION}")
    return given


def versions(value: object) -> VersionRange:
    """A range of state versions: a string of bounds, or the only version."""
    if type(value) not in (int, str):
        raise Misfit(f'expected a version, or a string of bounds such as ">=2, <5", found {kind_of(value)}')
    try:
        return exactly(value) if type(value) is int else parse_versions(string(value))
    except ValueError as error:
        raise Misfit(str(error)) from None


def module_glob(value: object) -> str:
    """A pattern for module names."""
    given = _line(value, LONGEST_PATTERN)
    if "/" in given or re.search(r"\.ko(\.\w+)?$", given):
        raise Misfit(f"expected the name of a module, without directory and .ko, found {quoted(given)}")
    try:
        Pattern.parse(given)
    except ValueError as error:
        raise Misfit(f"{error}, found {quoted(given)}") from None
    return given


def hexadecimal(*, fewest: int, most: int) -> Callable[[object], str]:
    """Whole bytes in hex digits, of which there are so many; lower case."""
    amount = f"{most}" if fewest == most else f"{fewest} to {most}"

    def convert(value: object) -> str:
        given = string(value)
        if not re.fullmatch("(?:[0-9a-fA-F]{2})+", given) or not fewest <= len(given) <= most:
            raise Misfit(f"expected {amount} hex digits, two a byte, found {quoted(given)}")
        return given.lower()

    return convert


_OWN: Final = tuple(os.path.dirname(os.path.realpath(each)) for each in (os.__file__, __file__))
"""What klpd runs from: Python's library and klpd."""


def directory(value: object) -> str:
    """An absolute path, written as the kernel would; all of the file system is too much to hold."""
    given = _line(value, _LONGEST_PATH)
    if not given.startswith("/") or given.startswith("//") or os.path.normpath(given) != given:
        raise Misfit(f'expected an absolute path without "//", "." and "..", found {quoted(given)}')
    real = os.path.realpath(given)
    if real == "/":
        raise Misfit("every program that opens any file would have to wait for klpd; name the directories")
    for own in _OWN:
        if os.path.commonpath((own, real)) in (own, real):
            raise Misfit(f"klpd would have to wait for itself, since its own files are there ({own})")
    return given


def cve(value: object) -> str:
    """The id of a CVE record."""
    given = string(value)
    if not re.fullmatch(r"CVE-[0-9]{4}-[0-9]{4,19}", given):
        raise Misfit(f'expected the id of a CVE, such as "CVE-2026-12345", found {quoted(given)}')
    return given


def list_of(convert: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    """An array of such values."""

    def convert_all(value: object) -> tuple[T, ...]:
        converted: list[T] = []
        wrong: list[Misfit] = []
        for index, each in enumerate(_typed(value, list)):
            try:
                converted.append(convert(each))
            except Misfit as misfit:
                wrong += (Misfit(each.message, (index, *each.path)) for each in misfit.all)
        if wrong:
            raise Misfit(wrong[0].message, wrong[0].path, tuple(wrong[1:]))
        return tuple(converted)

    return convert_all


def _typed(value: object, kind: type[T]) -> T:
    # type() and not isinstance(): a boolean is no integer here.
    if type(value) is not kind:
        raise Misfit(f"expected {_KINDS[kind]}, found {kind_of(value)}")
    return value
