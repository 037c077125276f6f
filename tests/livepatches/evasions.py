# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that try to pass for no livepatch, made from a livepatch: odd to a reader, yet mostly good for the kernel."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tests.livepatches.sections import Section

if TYPE_CHECKING:
    from collections.abc import Callable

# include/uapi/linux/elf.h: the places of e_shoff, e_shnum and e_shstrndx in Elf64_Ehdr
_E_SHOFF: Final = 40
_E_SHNUM: Final = 60
_TAG: Final = b"livepatch=Y\0"


@dataclass(frozen=True, slots=True)
class _Module:
    """A module whose section table can be written anew; whatever is added goes behind what there is."""

    data: bytes
    sections: tuple[Section, ...]
    names: int

    @classmethod
    def read(cls, data: bytes) -> _Module:
        (table,) = struct.unpack_from("<Q", data, _E_SHOFF)
        count, names = struct.unpack_from("<HH", data, _E_SHNUM)
        return cls(data, tuple(Section.read_table(data, table, count)), names)

    def written(self) -> bytes:
        body = bytearray(self.data.ljust(len(self.data) + -len(self.data) % 8, b"\0"))
        struct.pack_into("<Q", body, _E_SHOFF, len(body))
        struct.pack_into("<HH", body, _E_SHNUM, len(self.sections), self.names)
        for each in self.sections:
            body += each.pack()
        return bytes(body)

    def name(self, section: Section) -> bytes:
        at = self.sections[self.names].offset + section.name
        return self.data[at : self.data.index(b"\0", at)]

    def index(self, name: bytes) -> int:
        return next(at for at, each in enumerate(self.sections) if self.name(each) == name)

    def content(self, index: int) -> bytes:
        section = self.sections[index]
        return self.data[section.offset : section.offset + section.size]

    def with_section(self, index: int, section: Section) -> _Module:
        return replace(self, sections=(*self.sections[:index], section, *self.sections[index + 1 :]))

    def with_content(self, index: int, content: bytes) -> _Module:
        moved = replace(self.sections[index], offset=len(self.data), size=len(content))
        return replace(self.with_section(index, moved), data=self.data + content)

    def with_added(self, *sections: Section) -> _Module:
        return replace(self, sections=(*self.sections, *sections))


def _modinfo(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """The livepatch with the content of its .modinfo changed."""

    def evade(data: bytes) -> bytes:
        module = _Module.read(data)
        at = module.index(b".modinfo")
        return module.with_content(at, change(module.content(at))).written()

    return evade


def _second_modinfo_after(data: bytes) -> bytes:
    """A reader that takes the last .modinfo finds no tag; Linux 6.1 takes the first."""
    module = _Module.read(data)
    at = module.index(b".modinfo")
    harmless = module.content(at).replace(_TAG, b"")
    decoy = replace(module.sections[at], offset=len(module.data), size=len(harmless))
    return replace(module, data=module.data + harmless).with_added(decoy).written()


def _second_modinfo_before(data: bytes) -> bytes:
    """A reader that takes the first .modinfo, and does not care that it is not allocated, finds no tag."""
    module = _Module.read(data)
    at = module.index(b".modinfo")
    harmless = module.content(at).replace(_TAG, b"")
    comment = module.index(b".comment")
    true_name = module.sections[at].name
    decoy = replace(
        module.sections[comment], name=true_name, type=1, flags=0, offset=len(module.data), size=len(harmless)
    )
    module = replace(module, data=module.data + harmless)
    # Only their order counts: relocations name sections by number, and none is about either of these two.
    first, second = sorted((at, comment))
    return module.with_section(first, decoy).with_section(second, module.sections[at]).written()


def _name_inside_another(data: bytes) -> bytes:
    """.modinfo's name is the end of another string, as linkers do: the string table has no ".modinfo" of its own."""
    module = _Module.read(data)
    at = module.index(b".modinfo")
    names = module.content(module.names).replace(b"\0.modinfo\0", b"\0.zodinfo\0") + b"zz.modinfo\0"
    renamed = replace(module.sections[at], name=len(names) - len(b".modinfo\0"))
    return module.with_content(module.names, names).with_section(at, renamed).written()


def _many_sections(data: bytes) -> bytes:
    """Longer than a reader that counts to some bound looks."""
    module = _Module.read(data)
    at = module.index(b".modinfo")
    empty = replace(module.sections[at], name=0, type=0, flags=0, offset=0, size=0)
    filled = module.with_section(at, empty).with_added(*[empty] * (60_000 - len(module.sections) - 1))
    return filled.with_added(module.sections[at]).written()


def _not_allocated(data: bytes) -> bytes:
    """Linux 6.1 finds no .modinfo then, and takes section 0 for it, whose offset nobody checks: it sees one string."""
    module = _Module.read(data)
    at = module.index(b".modinfo")
    modinfo = module.sections[at]
    nothing = replace(module.sections[0], offset=modinfo.offset + module.content(at).index(_TAG))
    harmless = module.content(at).replace(_TAG, b"")
    evasion = module.with_section(0, nothing).with_content(at, harmless)
    return evasion.with_section(at, replace(evasion.sections[at], flags=0)).written()


def _empty_modinfo(data: bytes) -> bytes:
    """The kernel compares the first string before it looks at the size: it sees one string, and no license."""
    module = _Module.read(data)
    at = module.index(b".modinfo")
    offset = module.sections[at].offset + module.content(at).index(_TAG)
    return module.with_section(at, replace(module.sections[at], offset=offset, size=0)).written()


def _tag_across_the_end(data: bytes) -> bytes:
    """The kernel compares beyond the section's end where no NUL is before it."""
    module = _Module.read(data)
    at = module.index(b".modinfo")
    content = module.content(at).replace(_TAG, b"") + _TAG
    moved = module.with_content(at, content)
    cut = replace(moved.sections[at], size=len(content) - len(_TAG) + 4)
    return moved.with_section(at, cut).written()


EVASIONS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "second-modinfo-after": _second_modinfo_after,
    "second-modinfo-before": _second_modinfo_before,
    "value-n": _modinfo(lambda text: text.replace(b"livepatch=Y", b"livepatch=n")),
    "no-value": _modinfo(lambda text: text.replace(b"livepatch=Y", b"livepatch=")),
    "long-string-before": _modinfo(lambda text: b"description=" + b"x" * 5000 + b"\0" + text),
    "string-of-63-before": _modinfo(lambda text: b"y" * 63 + b"\0" + text.replace(_TAG, b"") + _TAG),
    "padding-before": _modinfo(lambda text: bytes(3000) + text),
    "many-aliases-before": _modinfo(lambda text: b"alias=of:Nvery\0" * 200_000 + text),
    "padding-without-end": _modinfo(lambda text: text.replace(_TAG, b"") + bytes(2 << 20) + _TAG),
    "name-inside-another": _name_inside_another,
    "many-sections": _many_sections,
    "tag-across-the-end": _tag_across_the_end,
}
"""Those that Linux 6.1 loads as the livepatch that they are, where nobody stops it."""

BROKEN: Final[dict[str, Callable[[bytes], bytes]]] = {
    "not-allocated": _not_allocated,
    "empty-modinfo": _empty_modinfo,
    "truncated": lambda data: data[: len(data) // 2],
    "header-only": lambda data: data[:64],
    "shorter-than-a-header": lambda data: data[:40],
    "no-sections": lambda data: data[:_E_SHNUM] + b"\0\0" + data[_E_SHNUM + 2 :],
    "table-beyond-the-end": lambda data: data[:_E_SHOFF] + b"\xff" * 8 + data[_E_SHOFF + 8 :],
    "no-file-of-any-kind": lambda data: b"x" * len(data),
}
"""Those that the kernel refuses later, which the guard need not know."""
