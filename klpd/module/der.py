# SPDX-License-Identifier: GPL-2.0-or-later
"""Just enough of DER (X.690) to look into a signature: elements with short tags and definite lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from klpd.errors import ModuleFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

INTEGER: Final = 0x02
OBJECT_IDENTIFIER: Final = 0x06
SEQUENCE: Final = 0x30
SET: Final = 0x31
CONTEXT_0: Final = 0x80
CONSTRUCTED: Final = 0x20
"""Set in the tag of an element that consists of others, where that is not always so."""

_LONG_TAG: Final = 0x1F
_LONGEST_LENGTH: Final = 4
_LONGEST_OID: Final = 64


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its tag with class and form, as it is in the first byte, and its content."""

    tag: int
    content: bytes

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """The one element that `data` is.  Raises ModuleFormatError for anything else."""
        element, end = cls._parse_at(data, 0)
        if end != len(data):
            raise ModuleFormatError(f"its signature has {len(data) - end} bytes too many")
        return element

    def children(self) -> Iterator[Self]:
        """The elements that this one consists of.  Raises ModuleFormatError where they are broken."""
        at = 0
        while at < len(self.content):
            element, at = self._parse_at(self.content, at)
            yield element

    def expect(self, tag: int) -> Self:
        """This element.  Raises ModuleFormatError unless it has this tag."""
        if self.tag != tag:
            raise ModuleFormatError(f"its signature has an element {self.tag:#04x} where {tag:#04x} belongs")
        return self

    @property
    def oid(self) -> str:
        """The object identifier that this is, as numbers with dots."""
        content = self.expect(OBJECT_IDENTIFIER).content
        if not 0 < len(content) <= _LONGEST_OID or content[-1] & 0x80:
            raise ModuleFormatError("its signature has a broken object identifier")
        numbers, number = [], 0
        for byte in content:
            number = number << 7 | byte & 0x7F
            if not byte & 0x80:
                numbers.append(number)
                number = 0
        first = min(numbers[0] // 40, 2)
        return ".".join(str(each) for each in (first, numbers[0] - first * 40, *numbers[1:]))

    @classmethod
    def _parse_at(cls, data: bytes, at: int) -> tuple[Self, int]:
        if at + 2 > len(data):
            raise ModuleFormatError("its signature is truncated")
        tag, length, at = data[at], data[at + 1], at + 2
        if tag & _LONG_TAG == _LONG_TAG:
            raise ModuleFormatError("its signature has an element of an unknown kind")
        if length & 0x80:
            size = length & 0x7F
            if not 0 < size <= _LONGEST_LENGTH or at + size > len(data):
                raise ModuleFormatError("its signature has an element without an end")
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
            if length < 0x80 or length >> 8 * (size - 1) == 0:
                raise ModuleFormatError("its signature has a length that is not as short as can be")
        if at + length > len(data):
            raise ModuleFormatError("its signature is truncated")
        return cls(tag, data[at : at + length]), at + length
