# SPDX-License-Identifier: GPL-2.0-or-later
"""What a module's code and its parameters lead to in its data: what they may change before anybody uses it.

Code that touches a variable by its name has a relocation to it, on x86-64 at the very byte that it reads or writes; so
has a module parameter to where its value goes (struct kernel_param in include/linux/moduleparam.h).  Code that was
given a pointer has none: what it may reach by that, nobody can tell from a file.  On other machines much code is like
that: it takes the address of one variable, and reaches others from there.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Final

from klpd.errors import ModuleFormatError
from klpd.module.elf import SHF_EXECINSTR
from klpd.module.image import Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from klpd.module.elf import Elf, Section
    from klpd.module.image import Image
    from klpd.module.parameters import Parameter

MOST_TRACES: Final = 1 << 17
"""The livepatches of distributions have some thousands."""
_WIDEST: Final = 8
"""Bytes that one instruction of the kernel's, or one parameter, changes."""
_INDIRECT: Final = 48
"""Bytes of a struct kparam_array, which has the pointer to its values among others; kparam_string has fewer."""

_X86_PC32: Final = frozenset({2, 4})  # R_X86_64_PC32, R_X86_64_PLT32
_S390_HALF: Final = frozenset({16, 18, 19, 20, 21, 26})  # those of instructions that are 2 bytes before their operand
_RIP_RELATIVE: Final = (0xC7, 0x05)
"""The mask and the value of a ModRM byte, for an operand whose address is relative to the next instruction."""
_BYTE_FOLLOWS: Final = frozenset({0x6B, 0x80, 0x83, 0xC0, 0xC1, 0xC6})
_WORD_FOLLOWS: Final = frozenset({0x69, 0x81, 0xC7})
_OPERAND_SIZE: Final = 0x66


class _Traces:
    """The traces into one section: where each begins and ends, by where they begin."""

    def __init__(self, traces: Iterable[tuple[int, int]]) -> None:
        self.all = sorted(traces)
        self._starts = [start for start, _end in self.all]
        self._ends = list(accumulate((end for _start, end in self.all), max))

    def touch(self, start: int, end: int) -> bool:
        before = bisect_left(self._starts, end)
        return before > 0 and self._ends[before - 1] > start


class Traces:
    """All traces in a module; they are looked for when they are first asked for.  `parameters` are those that may have
    any value.

    A trace ends with the variable in which it begins, where the symbols tell of that.  Raises ModuleFormatError as
    Image does.
    """

    def __init__(self, elf: Elf, image: Image, parameters: Sequence[Parameter]) -> None:
        self._elf = elf
        self._image = image
        self._parameters = parameters
        self._traces: dict[int, list[tuple[int, int]]] | None = None
        self._found: dict[int, _Traces] = {}

    def touch(self, start: Place, size: int) -> bool:
        """Whether one leads to any of so many bytes at a place."""
        return self._of(start.section).touch(start.offset, start.offset + size)

    def into(self, start: Place, size: int) -> tuple[range, ...]:
        """The bytes, counted from a place, to which those lead that lead to any of `size` bytes there."""
        traces = self._of(start.section)
        if not traces.touch(start.offset, start.offset + size):
            return ()
        return tuple(
            range(begin - start.offset, end - start.offset)
            for begin, end in traces.all
            if begin < start.offset + size and end > start.offset
        )

    def _of(self, section: int) -> _Traces:
        if self._traces is None:
            self._traces = self._look()
        if section not in self._found:
            self._found[section] = _Traces(self._traces.pop(section, ()))
        return self._found[section]

    def _look(self) -> dict[int, list[tuple[int, int]]]:
        found: dict[int, list[tuple[int, int]]] = {}
        for count, (section, begin, end) in enumerate(chain(self._of_code(), self._of_parameters())):
            if count == MOST_TRACES:
                raise ModuleFormatError(
                    f"its code leads to its data in more than {MOST_TRACES} places, which are not read"
                )
            found.setdefault(section, []).append((begin, end))
        return found

    def _extent(self, place: Place, size: int | None) -> tuple[int, int, int]:
        """Section, begin and end of a trace to `size` bytes; None: to all that is left of the variable, or section."""
        end = self._image.end_of(place)
        whole = self._elf.sections[place.section].size if end is None else end
        last = whole if size is None else min(whole, place.offset + size)
        return place.section, place.offset, max(place.offset + 1, last)

    def _of_code(self) -> Iterator[tuple[int, int, int]]:
        for section in self._elf.sections:
            if section.type == "SHT_PROGBITS" and self._is_of_code(section):
                for at, kind, place in self._image.leading_from(section.index):
                    yield self._extent(place + self._correction(section, at, kind), _WIDEST)

    def _is_of_code(self, section: Section) -> bool:
        # ppc64's code has its pointers in the table of contents.
        return bool(section.flags & SHF_EXECINSTR) or self._elf.is_named(section, b".toc")

    def _correction(self, section: Section, at: int, kind: int) -> int:
        """What is between the sum of symbol and addend and the byte that an instruction means."""
        if self._elf.machine == "EM_X86_64" and kind in _X86_PC32:
            return 4 + self._bytes_that_follow(section, at)
        if self._elf.machine == "EM_S390" and kind in _S390_HALF:
            return -2
        return 0

    def _bytes_that_follow(self, section: Section, at: int) -> int:
        """How many bytes of the instruction follow its displacement: the address is relative to its end."""
        code = self._elf.content(section)
        mask, relative = _RIP_RELATIVE
        if at < 2 or code[at - 1] & mask != relative:
            return 0
        if code[at - 2] in _BYTE_FOLLOWS or (code[at - 2] == 0xF6 and not code[at - 1] & 0x38):
            return 1
        if code[at - 2] in _WORD_FOLLOWS or (code[at - 2] == 0xF7 and not code[at - 1] & 0x38):
            return 2 if _OPERAND_SIZE in code[max(0, at - 4) : at - 2] else 4
        return 0

    def _of_parameters(self) -> Iterator[tuple[int, int, int]]:
        for each in self._parameters:
            if each.value is not None:
                yield self._extent(each.value, _WIDEST)
                yield from self._indirect(each.value)

    def _indirect(self, described: Place) -> Iterator[tuple[int, int, int]]:
        """Where the values of a parameter are that are described at a place (struct kparam_array, kparam_string)."""
        section, begin, end = self._extent(described, _INDIRECT)
        for at in range(begin, end, 8):
            value = self._image.target(Place(section, at))
            if value is not None:
                yield self._extent(value, None)
