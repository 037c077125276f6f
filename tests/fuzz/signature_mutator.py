# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to what is signed as modules are: to the content, the signature, its size as it is claimed, or the marker."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from tests.fuzz import der_mutator

if TYPE_CHECKING:
    from tests.fuzz.mutation import Plainly

_MARKER: Final = b"~Module signature appended~\n"
_KIND: Final = bytes([0, 0, 2, 0, 0, 0, 0, 0])
_END: Final = len(_KIND) + 4 + len(_MARKER)
_SMALLEST: Final = b"\x30\x03\x02\x01\x00"


def mutate(data: bytes, largest: int, seed: int, plainly: Plainly) -> bytes:
    """`data` with its signature changed, or what is signed; at most `largest` bytes."""
    rng = random.Random(seed)
    content, signature = split(data)
    if not signature or rng.random() < 0.1:
        return plainly(data, largest)
    if rng.random() < 0.1:
        return (plainly(content, len(content) + 16) + signature)[:largest]
    return (content + mutate_tail(signature, rng, plainly))[:largest]


def mutate_tail(tail: bytes, rng: random.Random, plainly: Plainly) -> bytes:
    """A signature with the trailer behind it, changed; one is made up where there is none."""
    if not tail.endswith(_MARKER) or len(tail) < _END:
        return _signed(plainly(tail or _SMALLEST, len(tail) + 64)) if rng.random() < 0.3 else b""
    encoded = tail[:-_END]
    match rng.randrange(8):
        case 0:
            return _signed(encoded, rng.choice((0, 1, len(encoded) - 1, len(encoded) + 1, 1 << 14, (1 << 32) - 1)))
        case 1:
            return plainly(tail, len(tail) + 64)
        case _:
            return _signed(der_mutator.mutate(encoded, len(encoded) + 256, rng.randrange(1 << 32), plainly))


def split(data: bytes) -> tuple[bytes, bytes]:
    """What is signed, and the signature with its trailer."""
    if not data.endswith(_MARKER) or len(data) < _END:
        return data, b""
    size = int.from_bytes(data[-len(_MARKER) - 4 : -len(_MARKER)], "big")
    start = max(len(data) - _END - size, 0)
    return data[:start], data[start:]


def _signed(encoded: bytes, size: int | None = None) -> bytes:
    claimed = len(encoded) if size is None else max(size, 0)
    return encoded + _KIND + claimed.to_bytes(4, "big") + _MARKER
