# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to module files that know what a module consists of, so that the result gets past the first checks.

Bytes changed at random break an ELF header or miss what the reader looks at.  Here sections, relocations, symbols,
modinfo, arrays and the signature's trailer are changed as such; some of the time bytes are changed all the same.
"""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from tests.fuzz.modules import NOBITS, RELA, SYMTAB, Module
from tests.fuzz.signature_mutator import mutate_tail

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fuzz.modules import Section
    from tests.fuzz.mutation import Plainly

_ODD: Final = (0, 1, 2, 3, 7, 8, 24, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 62, 1 << 63, (1 << 64) - 1)
_ENTRIES: Final = (8, 16, 24, 56, 64, 152, 168)
"""The sizes of what arrays in livepatches consist of, in bytes."""
_POINTERS: Final = (1, 257, 38, 22)
"""The relocations that make a pointer on x86_64, arm64, ppc64le and s390x."""
_INDEXES: Final = (0, 0xFF00, 0xFFF1, 0xFFF2, 0xFFFF)
_NAMES: Final = tuple(
    name.encode()
    for name in (
        ".modinfo",
        ".data",
        ".bss",
        ".rodata",
        ".init.data",
        ".gnu.linkonce.this_module",
        ".note.gnu.build-id",
        ".kpatch.funcs",
        ".kpatch.callbacks.pre_patch",
        ".kpatch.callbacks.post_patch",
        ".kpatch.callbacks.pre_unpatch",
        ".kpatch.callbacks.post_unpatch",
        "__klp_objects",
        ".init.klp_objects",
        "__klp_funcs",
    )
)
_TAGS: Final = tuple(
    tag.encode()
    for tag in (
        "livepatch=Y",
        "name=some",
        "name=..",
        "name=" + 56 * "n",
        "klpd_state=none",
        "klpd_state=0x1001:2",
        "klpd_state=4097:3:sticky",
        "klpd_state=18446744073709551615:4294967295:sticky,restores",
        "klpd_state=18446744073709551616:1",
        "klpd_state=1:2:restores,",
        "parm=replace:whether to replace",
        "parmtype=replace:bool",
        "depends=a,b,,a",
        "vermagic=6.1.0 SMP",
        "version=\x1b[2J",
        "description=\x80\u202e",
        "license=GPL",
        "srcversion=",
        "=",
        "intree=Y",
    )
)
_SYMBOL: Final = "IBBHQQ"
_RELOCATION: Final = "QQq"
_HEADER_FIELDS: Final = ((4, 1), (5, 1), (16, 2), (18, 2), (40, 8), (58, 2), (60, 2), (62, 2))
"""Where the members of an ELF header are that are read, and their sizes."""


def mutate(data: bytes, largest: int, seed: int, plainly: Plainly) -> bytes:
    """`data` with some changes, the same for the same `seed` as far as `plainly` is; at most `largest` bytes."""
    rng = random.Random(seed)
    module = Module.of(data)
    if module is None or rng.random() < 0.1:
        return plainly(data, largest)
    for _ in range(min(int(rng.expovariate(0.6)) + 1, 8)):
        rng.choice(_CHANGES)(module, rng, plainly)
    changed = module.done()
    if rng.random() < 0.1:
        changed = _spoiled(changed, module.order, rng)
    return changed if len(changed) <= largest else plainly(data, largest)


def cross(data: bytes, other: bytes, largest: int, seed: int) -> bytes:
    """`data` with a section of `other`: in place of its own of that name, or as one more."""
    rng = random.Random(seed)
    module, giver = Module.of(data), Module.of(other)
    if module is None or giver is None:
        return (data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :])[:largest]
    given = rng.choice(giver.sections)
    taken = next((number for number, each in enumerate(module.sections) if each.name == given.name), None)
    if taken is None or rng.random() < 0.2:
        module.sections.append(given)
    else:
        module.sections[taken] = given
    if rng.random() < 0.2:
        module.tail = giver.tail
    crossed = module.done()
    return crossed if len(crossed) <= largest else data[:largest]


def _contents(module: Module, rng: random.Random, kind: int | None = None) -> Section | None:
    """A section that has something in it, and is of this kind."""
    found = [each for each in module.sections if each.content and kind in (None, each.type)]
    return rng.choice(found) if found else None


def _number(rng: random.Random, around: int = 0) -> int:
    """A number as they go wrong: a bit off, an odd one, or a place near by."""
    match rng.randrange(4):
        case 0:
            return max(around + rng.choice((-24, -8, -1, 1, 8, 24)), 0)
        case 1:
            return rng.choice(_ODD)
        case 2:
            return rng.randrange(64) * 8
        case _:
            return rng.randrange(1 << 12)


def _byte_order(order: str) -> Literal["little", "big"]:
    return "little" if order == "<" else "big"


def _put(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]


def _change_number(module: Module, rng: random.Random, _plainly: Plainly) -> None:
    section = _contents(module, rng)
    if section is None:
        return
    width = rng.choice((1, 2, 4, 8))
    at = rng.randrange(max(len(section.content) // width, 1)) * width
    order = _byte_order(module.order)
    old = int.from_bytes(section.content[at : at + width], order)
    section.content = _put(section.content, at, (_number(rng, old) % (1 << 8 * width)).to_bytes(width, order))


def _change_bytes(module: Module, rng: random.Random, plainly: Plainly) -> None:
    section = _contents(module, rng)
    if section is not None:
        section.content = plainly(section.content, len(section.content) + 64)


def _change_size(module: Module, rng: random.Random, _plainly: Plainly) -> None:
    section = rng.choice(module.sections)
    size = rng.choice(_ENTRIES)
    match rng.randrange(4):
        case 0:
            section.content += bytes(size)
        case 1:
            section.content = section.content[:-size]
        case 2:
            section.content = section.content[: rng.randrange(len(section.content) + 1)]
        case _:
            section.excess = _number(rng, max(section.excess, 0)) if section.type == NOBITS or rng.random() < 0.2 else 0


def _change_relocation(module: Module, rng: random.Random, _plainly: Plainly) -> None:
    section = _contents(module, rng, RELA)
    if section is None:
        return
    entry = struct.Struct(module.order + _RELOCATION)
    entries = [entry.unpack_from(section.content, at) for at in range(0, len(section.content) - 23, 24)]
    if not entries:
        return
    chosen = rng.randrange(len(entries))
    offset, info, addend = entries[chosen]
    match rng.randrange(7):
        case 0:
            offset = _number(rng, offset)
        case 1:
            offset = rng.choice(entries)[0]
        case 2:
            info = info >> 32 << 32 | rng.choice((*_POINTERS, 0, 2))
        case 3:
            info = info & 0xFFFFFFFF | (rng.randrange(64) << 32)
        case 4:
            addend = _number(rng, max(addend, 0)) % (1 << 63) * rng.choice((1, 1, -1))
        case 5:
            _, info, addend = rng.choice(entries)
        case _:
            del entries[chosen]
            section.content = b"".join(entry.pack(*each) for each in entries)
            return
    new = entry.pack(offset % (1 << 64), info, addend)
    section.content = section.content + new if rng.random() < 0.3 else _put(section.content, chosen * 24, new)


def _change_symbol(module: Module, rng: random.Random, _plainly: Plainly) -> None:
    section = _contents(module, rng, SYMTAB)
    if section is None or len(section.content) < 24:
        return
    entry = struct.Struct(module.order + _SYMBOL)
    at = rng.randrange(len(section.content) // 24) * 24
    name, info, other, index, value, size = entry.unpack_from(section.content, at)
    match rng.randrange(4):
        case 0:
            info = rng.choice((0, 1, 2, 3, 0x11, 0x12))
        case 1:
            index = rng.choice(_INDEXES) if rng.random() < 0.3 else rng.randrange(len(module.sections) + 1)
        case 2:
            value = _number(rng, value)
        case _:
            size = rng.choice(_ENTRIES) * rng.randrange(1, 4) if rng.random() < 0.5 else _number(rng, size)
    new = entry.pack(name, info, other, index, value % (1 << 64), size % (1 << 64))
    section.content = section.content + new if rng.random() < 0.3 else _put(section.content, at, new)


def _change_tags(module: Module, rng: random.Random, plainly: Plainly) -> None:
    section = next((each for each in module.sections if each.name == b".modinfo"), None)
    if section is None:
        return
    tags = section.content.removesuffix(b"\0").split(b"\0")
    at = rng.randrange(len(tags))
    match rng.randrange(6):
        case 0:
            del tags[at]
        case 1:
            tags.insert(rng.randrange(len(tags) + 1), tags[at])
        case 2 | 3:
            tags.insert(rng.randrange(len(tags) + 1), rng.choice(_TAGS))
        case 4:
            name, equals, value = tags[at].partition(b"=")
            tags[at] = name + equals + plainly(value or b"x", len(value) + 32).replace(b"\0", b"0")
        case _:
            rng.shuffle(tags)
    section.content = b"".join(each + b"\0" for each in tags)


def _change_section(module: Module, rng: random.Random, _plainly: Plainly) -> None:
    section = rng.choice(module.sections)
    match rng.randrange(7):
        case 0:
            section.type = rng.choice((0, 1, 1, 2, 3, 4, 7, 8, 9, 0x6FFFFFFF, 0xFFFFFFFF))
        case 1:
            section.flags ^= rng.choice((1, 2, 4, 0x10, 0x40, 1 << 63))
        case 2:
            section.link = rng.choice(_ODD) if rng.random() < 0.2 else rng.randrange(len(module.sections) + 1)
            section.link &= 0xFFFFFFFF
        case 3:
            section.info = rng.randrange(len(module.sections) + 1)
        case 4:
            section.name = rng.choice(_NAMES)
        case 5:
            other = rng.choice(module.sections)
            section.content, other.content = other.content, section.content
        case _:
            module.sections.append(replace(section, name=rng.choice((section.name, rng.choice(_NAMES)))))


def _repeat_entries(module: Module, rng: random.Random, _plainly: Plainly) -> None:
    """Put entries of an array at the end or over others, together with the pointers that they hold."""
    tables = [each for each in module.sections if each.type == RELA and 0 < each.info < len(module.sections)]
    if not tables:
        return
    table = rng.choice(tables)
    section = module.sections[table.info]
    size = rng.choice(_ENTRIES) * rng.choice((1, 1, 2, 3))
    start = rng.randrange(len(section.content) // 8 + 1) * 8
    to = len(section.content) if rng.random() < 0.6 else rng.randrange(len(section.content) // 8 + 1) * 8
    entry = struct.Struct(module.order + _RELOCATION)
    entries = [entry.unpack_from(table.content, at) for at in range(0, len(table.content) - 23, 24)]
    moved = [(at - start + to, info, addend) for at, info, addend in entries if start <= at < start + size]
    kept = [each for each in entries if not to <= each[0] < to + size]
    section.content = _put(section.content, to, section.content[start : start + size])
    table.content = b"".join(entry.pack(*each) for each in (*kept, *moved))


def _change_tail(module: Module, rng: random.Random, plainly: Plainly) -> None:
    """Change what follows the sections."""
    module.tail = mutate_tail(module.tail, rng, plainly)


def _spoiled(data: bytes, order: str, rng: random.Random) -> bytes:
    """A file with a lie in its header or its section table, or with its end cut off."""
    if rng.random() < 0.2:
        return data[: rng.randrange(len(data) + 1)]
    (table,) = struct.unpack_from(f"{order}Q", data, 40)
    (count,) = struct.unpack_from(f"{order}H", data, 60)
    if rng.random() < 0.4 or count == 0:
        at, width = rng.choice(_HEADER_FIELDS)
    else:
        field, width = rng.choice(((0, 4), (4, 4), (24, 8), (32, 8)))
        at = table + rng.randrange(count) * 64 + field
    old = int.from_bytes(data[at : at + width], _byte_order(order))
    return _put(data, at, (_number(rng, old) % (1 << 8 * width)).to_bytes(width, _byte_order(order)))


_CHANGES: Final[tuple[Callable[[Module, random.Random, Plainly], None], ...]] = (
    _change_number,
    _change_bytes,
    _change_size,
    _change_relocation,
    _change_relocation,
    _change_symbol,
    _change_tags,
    _change_section,
    _repeat_entries,
    _repeat_entries,
    _change_tail,
)
