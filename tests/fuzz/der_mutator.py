# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to DER, the encoding of signatures and certificates, that keep the lengths of what is around them right."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fuzz.mutation import Plainly

_CONSTRUCTED: Final = 0x20
_DEEPEST: Final = 32
_TAGS: Final = (0x02, 0x03, 0x04, 0x05, 0x06, 0x0C, 0x13, 0x16, 0x17, 0x18, 0x1E, 0x30, 0x31, 0x80, 0xA0, 0xA1, 0xA3)
"""Those that certificates and signatures have: universal ones, and those of optional members."""
_OBJECT_IDENTIFIER: Final = 0x06
_IDENTIFIERS: Final = tuple(
    bytes.fromhex(each)
    for each in (
        "2a864886f70d010701",  # data
        "2a864886f70d010702",  # signed_data
        "2a864886f70d010101",  # rsaEncryption
        "608648016503040201",  # sha256
        "608648016503040203",  # sha512
        "608648016503040208",  # sha3-256
        "2b0e03021a",  # sha1
        "2a811ccf5501831101",  # sm3
        "550403",  # commonName
        "550406",  # countryName
        "551d0e",  # subjectKeyIdentifier
        "2a8648ce3d0201",  # ecPublicKey
    )
)


@dataclass(slots=True)
class _Value:
    """A value: what it holds are bytes, or other values."""

    tag: int
    content: bytes = b""
    parts: list[_Value] = field(default_factory=list)

    def done(self) -> bytes:
        content = b"".join(each.done() for each in self.parts) if self.parts else self.content
        size = len(content)
        if size < 0x80:
            return bytes([self.tag, size]) + content
        count = (size.bit_length() + 7) // 8
        return bytes([self.tag, 0x80 | count]) + size.to_bytes(count, "big") + content

    def all(self) -> Iterator[_Value]:
        yield self
        for each in self.parts:
            yield from each.all()


def mutate(data: bytes, largest: int, seed: int, plainly: Plainly) -> bytes:
    """`data` with some changes, the same for the same `seed` as far as `plainly` is; at most `largest` bytes."""
    rng = random.Random(seed)
    values = _values(data)
    if not values or rng.random() < 0.1:
        return plainly(data, largest)
    whole = _Value(_CONSTRUCTED, parts=values)
    for _ in range(min(int(rng.expovariate(0.8)) + 1, 6)):
        _change(whole, rng, plainly)
    return b"".join(each.done() for each in whole.parts)[:largest]


def _values(data: bytes, depth: int = 0) -> list[_Value]:
    """What `data` consists of; nothing where it is no sequence of values."""
    values = []
    at = 0
    while at < len(data):
        head = data[at : at + 2]
        if len(head) < 2:
            return []
        tag, size = head
        at += 2
        if size >= 0x80:
            count = size & 0x7F
            size = int.from_bytes(data[at : at + count], "big")
            at += count
        content = data[at : at + size]
        if len(content) < size:
            return []
        at += size
        parts = _values(content, depth + 1) if tag & _CONSTRUCTED and depth < _DEEPEST else []
        values.append(_Value(tag, content, parts))
    return values


def _change(whole: _Value, rng: random.Random, plainly: Plainly) -> None:
    holders = [each for each in whole.all() if each.parts]
    if not holders:
        return
    holder = rng.choice(holders)
    at = rng.randrange(len(holder.parts))
    value = holder.parts[at]
    match rng.randrange(9):
        case 0 if len(holder.parts) > 1:
            del holder.parts[at]
        case 1:
            holder.parts.insert(rng.randrange(len(holder.parts) + 1), value)
        case 2:
            holder.parts[at] = _copy(rng.choice(list(whole.all())[1:]))
        case 3:
            value.tag = rng.choice(_TAGS) if rng.random() < 0.8 else rng.randrange(256)
        case 4:
            rng.shuffle(holder.parts)
        case 5:
            holder.parts[at] = _Value(rng.choice((_CONSTRUCTED | 0x10, 0x31, 0xA0)), parts=[value])
        case 6:
            found = [each for each in whole.all() if each.tag == _OBJECT_IDENTIFIER]
            if found:
                rng.choice(found).content = rng.choice(_IDENTIFIERS)
        case 7:
            value.parts, value.content = [], value.content[: rng.randrange(len(value.content) + 1)]
        case _:
            leaf = rng.choice([each for each in whole.all() if not each.parts])
            leaf.content = plainly(leaf.content or b"0", len(leaf.content) + 16)


def _copy(value: _Value) -> _Value:
    return _Value(value.tag, value.content, [_copy(each) for each in value.parts])
