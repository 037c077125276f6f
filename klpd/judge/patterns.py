# SPDX-License-Identifier: GPL-2.0-or-later
"""Patterns for the names of livepatches: "*", "?" and "[...]", read once and matched without going back.

It is the language of glob(7) without what differs between its readers: character classes and the like, "^" and "\\".
"-" and "_" are one character, as they are to modprobe, in a pattern and in a name alike; but for the "-" of a range.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LONGEST: Final = 256
"""How many characters a pattern may have.  A module's name has at most 55 (MODULE_NAME_LEN)."""
_MOST_STEPS: Final = 20_000
"""How far two patterns are compared before the answer is that it is not known."""
_SAME: Final = "-_"


@dataclass(frozen=True, slots=True)
class _Element:
    """What one character of a name may be: one in these ranges, or (`but`) any other."""

    ranges: tuple[tuple[str, str], ...]
    but: bool = False

    def __contains__(self, char: str) -> bool:
        alike = _SAME if char in _SAME else char
        return any(low <= each <= high for low, high in self.ranges for each in alike) is not self.but

    @property
    def is_one(self) -> bool:
        """Whether it is for one character only."""
        return not self.but and len(self.ranges) == 1 and self.ranges[0][0] == self.ranges[0][1]


_ANY: Final = _Element((), but=True)


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern: its elements, and before which of them (or behind the last) anything may stand.

    Matching follows all ways through it at once.  The set of places that they are at is a number: bit i stands for
    "the elements before i are matched"; `_gaps` are the places where a "*" is.  `_literal` is the only name that fits.
    """

    _elements: tuple[_Element, ...]
    _gaps: int
    _literal: str | None = None

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """The pattern that `text` means.  Raises ValueError, which says why there is none."""
        if len(text) > LONGEST:
            raise ValueError(f"a pattern has at most {LONGEST} characters, and this one {len(text)}")
        elements: list[_Element] = []
        gaps = 0
        for each in _parts(text):
            if each is None:
                gaps |= 1 << len(elements)
            else:
                elements.append(each)
        single = not gaps and all(each.is_one for each in elements)
        return cls(tuple(elements), gaps, _shortest(elements) if single else None)

    def matches(self, name: str) -> bool:
        """Whether the whole of `name` fits."""
        places = 1
        for char in name:
            places = self._step(places, self._taking(char))
            if not places:
                return False
        return self._done(places)

    def covers(self, other: Pattern) -> bool:
        """Whether every name that fits `other` is known to fit this one.

        False also where finding out would take too long.
        """
        if other._literal is not None:
            return other._literal == self._literal if self._literal is not None else self.matches(other._literal)
        if (other._gaps and not self._gaps) or not self.matches(_shortest(other._elements)):
            return False
        letters = [(self._taking(char), other._taking(char)) for char in _letters(self, other)]
        start = (1, 1)
        seen, waiting, steps = {start}, [start], 0
        while waiting:
            ours, theirs = waiting.pop()
            if other._done(theirs) and not self._done(ours):
                return False
            steps += len(letters)
            if steps > _MOST_STEPS:
                return False
            for we_take, they_take in letters:
                following = self._step(ours, we_take), other._step(theirs, they_take)
                if following[1] and following not in seen:
                    seen.add(following)
                    waiting.append(following)
        return True

    def excludes(self, other: Pattern) -> bool:
        """Whether no name is known to fit both."""
        if self._literal is not None:
            return not other.matches(self._literal)
        return other._literal is not None and not self.matches(other._literal)

    def _taking(self, char: str) -> int:
        """The places whose element takes this character."""
        return sum(1 << place for place, element in enumerate(self._elements) if char in element)

    def _step(self, places: int, taking: int) -> int:
        return (places & taking) << 1 | places & self._gaps

    def _done(self, places: int) -> bool:
        return bool(places >> len(self._elements))


EVERYTHING: Final = Pattern((), 1)
"""The pattern that every name fits."""


def _shortest(elements: Sequence[_Element]) -> str:
    """A name that fits these elements, with "_" for "-"."""
    return "".join(("\0" if each.but else each.ranges[0][0]).replace("-", "_") for each in elements)


def _letters(*patterns: Pattern) -> list[str]:
    """Characters enough to tell the patterns apart: of each stretch that no element parts, the first."""
    starts = {0, *(ord(each) + more for each in _SAME for more in (0, 1))}
    for pattern in patterns:
        for element in pattern._elements:
            starts.update(start for low, high in element.ranges for start in (ord(low), ord(high) + 1))
    return [chr(each) for each in sorted(starts) if each <= 0x10FFFF]


def _parts(text: str) -> Iterator[_Element | None]:
    """The elements in their order; None stands for "*"."""
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "*":
            yield None
        elif char == "?":
            yield _ANY
        elif char == "[":
            element, at = _bracket(text, at)
            yield element
        elif char == "\\":
            raise ValueError('there is no "\\" in patterns: no module\'s name needs it')
        elif char == "]":
            raise ValueError('"]" without a "[" before it')
        else:
            yield _Element(((char, char),))


def _bracket(text: str, at: int) -> tuple[_Element, int]:
    """The element that begins behind a "[" at `at`, and where the text goes on behind it."""
    if text.startswith("^", at):
        raise ValueError('"[^" means something else to each who reads it; write "[!" for all but these')
    but = text.startswith("!", at)
    at += but
    end = text.find("]", at + 1)  # one that comes first stands for itself
    if end < 0:
        raise ValueError('"[" without its "]"')
    members = text[at:end]
    for kind in (":", ".", "="):
        if f"[{kind}" in members:
            raise ValueError(
                f'there is nothing like "[{kind}...{kind}]" in patterns; write the characters or a range, as in "[0-9]"'
            )
    if "\\" in members:
        raise ValueError('there is no "\\" in patterns: no module\'s name needs it')
    return _Element(tuple(_ranges(members)), but=but), end + 1


def _ranges(members: str) -> Iterator[tuple[str, str]]:
    """What stands in brackets.  "-" stands for itself as the first, the last, and behind a range."""
    at = 0
    while at < len(members):
        low = high = members[at]
        at += 1
        if members.startswith("-", at) and at + 1 < len(members):
            high = members[at + 1]
            at += 2
            if high < low:
                raise ValueError(f'there is nothing in the range "{low}-{high}"')
        yield low, high
