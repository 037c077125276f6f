# SPDX-License-Identifier: GPL-2.0-or-later
"""Taking values out of TOML tables, with a complaint, and its place, for each that is not as it should be.

A table's keys are known by being asked for; `Table.close` refuses the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from klpd.errors import PolicyError
from klpd.model import Rule
from klpd.policy.convert import Misfit, kind_of
from klpd.policy.show import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from klpd.model import RuleKind
    from klpd.policy.positions import Path, Position
    from klpd.policy.source import Source

T = TypeVar("T")

MOST_COMPLAINTS: Final = 100
"""How many complaints about one file are kept."""


@dataclass(frozen=True, slots=True)
class Entry(Generic[T]):
    """A value and where its key is."""

    value: T
    rule: Rule


@dataclass(frozen=True, slots=True)
class PolicyWarning:
    """Something in a file that is taken, and will hardly be what its author meant."""

    message: str
    file: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{where}: warning: {self.message}"


class Table:
    """One table of a file; `complaints` is where what is wrong with it goes, `kind` what its rules are."""

    def __init__(
        self,
        source: Source,
        complaints: list[PolicyError],
        values: Mapping[str, object],
        kind: RuleKind,
        path: Path = (),
    ) -> None:
        self._source = source
        self._complaints = complaints
        self._values = values
        self._kind = kind
        self._path = path
        self._known: list[str] = []

    @property
    def rule(self) -> Rule:
        """Where the table begins."""
        return self._rule(self._source.positions.value(self._path))

    def take(self, key: str, convert: Callable[[object], T]) -> Entry[T] | None:
        """The value of `key`, converted; None where it is absent or does not fit, which is complained about."""
        self._known.append(key)
        if key not in self._values:
            return None
        try:
            value = convert(self._values[key])
        except Misfit as misfit:
            for each in misfit.all:
                at = self._source.positions.value((*self._path, key, *each.path))
                self._complain(f"{key}: {each.message}", at)
            return None
        return Entry(value, self._rule(self._source.positions.key((*self._path, key))))

    def require(self, key: str, convert: Callable[[object], T]) -> Entry[T] | None:
        """`take`, for a key that must be there."""
        if key not in self._values:
            self.complain(f'"{key}" is missing')
        return self.take(key, convert)

    def get(self, key: str, convert: Callable[[object], T], default: T) -> T:
        """The value of `key` alone, or `default`."""
        entry = self.take(key, convert)
        return default if entry is None else entry.value

    def table(self, key: str, *, required: bool = False) -> Table:
        """The table at `key`; an empty one where there is none."""
        self._known.append(key)
        path = (*self._path, key)
        value = self._values.get(key, {})
        if not isinstance(value, dict):
            hint = f"; write [{_dotted(path)}]" if isinstance(value, list) else ""
            self.complain(f"{key}: expected a table, found {kind_of(value)}{hint}", key)
            value = {}
        elif required and not value:
            self.complain(f'"{key}" is missing or empty', key)
        return Table(self._source, self._complaints, value, self._kind, path)

    def tables(self, key: str) -> Iterator[Table]:
        """The tables of the array at `key`."""
        self._known.append(key)
        path = (*self._path, key)
        value = self._values.get(key, [])
        if not isinstance(value, list):
            self.complain(f"{key}: expected an array of tables, found {kind_of(value)}; write [[{_dotted(path)}]]", key)
            return
        for index, each in enumerate(value):
            inner = (*path, index)
            if isinstance(each, dict):
                yield Table(self._source, self._complaints, each, self._kind, inner)
            else:
                self._complain(f"{key}: expected a table, found {kind_of(each)}", self._source.positions.value(inner))

    def has(self, *keys: str) -> bool:
        """Whether any of `keys` is there, fitting or not."""
        return any(each in self._values for each in keys)

    def remark(self, message: str, key: str) -> PolicyWarning:
        """What there is to say of the value of `key`, with its place."""
        at = self._source.positions.value((*self._path, key))
        return PolicyWarning(message, self._source.file, at.line, at.column)

    def complain(self, message: str, key: str | None = None) -> None:
        """Complain about the value of `key`, or about the table."""
        path = self._path if key is None else (*self._path, key)
        self._complain(message, self._source.positions.value(path))

    def close(self) -> None:
        """Complain about the keys that nobody asked for."""
        for key in self._values:
            if len(self._complaints) >= MOST_COMPLAINTS:
                return
            if key not in self._known:
                self._complain(self._unknown(key), self._source.positions.key((*self._path, key)))

    def _unknown(self, key: str) -> str:
        from difflib import get_close_matches

        near = get_close_matches(key, self._known, n=1)
        hint = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(self._known)}"
        return f"unknown key {quoted(key)}; {hint}"

    def _complain(self, message: str, at: Position) -> None:
        if len(self._complaints) < MOST_COMPLAINTS:
            self._complaints.append(PolicyError(message, file=self._source.file, line=at.line, column=at.column))

    def _rule(self, at: Position) -> Rule:
        return Rule(self._kind, self._source.file, at.line)


def _dotted(path: Path) -> str:
    """A table as its header names it."""
    return ".".join(each for each in path if isinstance(each, str))
