# SPDX-License-Identifier: GPL-2.0-or-later
"""What the readers of all formats have in common: what they tell, and the strings and functions that they tell of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from klpd.errors import ModuleFormatError
from klpd.model import VMLINUX, Format, Function, Object, State
from klpd.module.elf import SHF_ALLOC, SHF_EXECINSTR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from klpd.layout import KernelLayout
    from klpd.model import Callback
    from klpd.module.elf import Elf, Section
    from klpd.module.image import Image, Place
    from klpd.module.parameters import Parameter

MOST_ENTRIES: Final = 1 << 14
"""Of all states, objects, functions and callbacks of a livepatch, with the entries that end them."""


@dataclass(frozen=True, slots=True)
class Patch:
    """What is known of the klp_patch that a module will hand to klp_enable_patch(); None is what cannot be known.

    `layout`: how the layout that it was read by is known; None where it was not read by the kernel's structures.
    """

    format: Format = Format.UNKNOWN
    replace: bool | None = None
    states: tuple[State, ...] | None = None
    objects: tuple[Object, ...] | None = None
    layout: str | None = None


class UnfamiliarError(Exception):
    """Something is not laid out as it is in the kernels and tools that are known."""


class Structures:
    """The structures in a module whose `struct module` is at the place `module`, with a bound on how many are read.

    `layout` is that of the kernel that the module is for; to ask for it may take a while.  `parameters` are those of
    the module that may have any value.
    """

    def __init__(
        self,
        elf: Elf,
        image: Image,
        module: Place,
        layout: Callable[[], KernelLayout],
        parameters: Sequence[Parameter] = (),
    ) -> None:
        self.parameters = parameters
        self.elf = elf
        self.image = image
        self.module = module
        self.layout = layout
        self._left = MOST_ENTRIES

    def count(self) -> None:
        """Say that one more entry is read.  Raises ModuleFormatError over the bound."""
        self._left -= 1
        if self._left < 0:
            raise ModuleFormatError(f"its klp_patch has more than {MOST_ENTRIES} entries, which are not read")

    def section(self, *names: bytes) -> Section | None:
        """The section with one of these names; None if none has content.  Raises UnfamiliarError unless it is the only
        one, and data that the file has."""
        found = [each for name in names for each in self.elf.named(name) if each.size]
        if not found:
            return None
        (section, *others) = found
        if others or section.type != "SHT_PROGBITS" or section.flags & (SHF_ALLOC | SHF_EXECINSTR) != SHF_ALLOC:
            raise UnfamiliarError
        return section

    def string(self, pointer: Place) -> str | None:
        """The string that the pointer at a place will point to; None for NULL."""
        place = self.image.target(pointer)
        if place is None:
            if self.image.number(pointer, 8) == 0:
                return None
            raise UnfamiliarError
        if not self.image.is_data(place):
            raise UnfamiliarError
        return self.image.string(place)

    def callbacks(self, place: Place, offsets: Iterable[tuple[Callback, int]]) -> tuple[Callback, ...]:
        """Those that the object at a place has, which are at these offsets in it."""
        return tuple(each for each, at in offsets if self.image.is_relocated(place + at, 8))

    def object_name(self, pointer: Place) -> tuple[str, bool]:
        """The name of the object to whose name a pointer at a place will point, and whether it is misnamed."""
        name = self.string(pointer)
        return VMLINUX if name is None else name, name == VMLINUX

    def function(self, name_at: Place, new_at: Place, sympos_at: Place) -> Function | None:
        """The function whose name, replacement and position are at these places; None where all are zeros."""
        name = self.string(name_at)
        new = self.image.target(new_at)
        sympos = self.image.number(sympos_at, 8)
        if name is None and new is None and sympos == 0 and self.image.number(new_at, 8) == 0:
            return None
        if name is None or new is None or not self.image.is_code(new) or sympos is None:
            raise UnfamiliarError
        return Function(name, sympos)
