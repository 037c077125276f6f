# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to TOML texts by words and lines: what is between them is looked at by readers as little as by people."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tests.fuzz.mutation import Plainly

_WORD: Final = re.compile(rb"[A-Za-z0-9_.+-]+|\s+|\"[^\"\n]*\"|\"\"\"|'''|\[\[|\]\]|.", re.DOTALL)
_SYNTAX: Final = tuple(
    each.encode()
    for each in (
        *("[", "]", "[[", "]]", "{", "}", "=", ",", ".", "#", "\n", "\r\n", '"', '"""', "'", "'''", "\\u0000", "\\"),
        *("true", "false", "0", "-1", "0x1001", "0o7", "0b1", "1_000", "1e3", "inf", "nan", "18446744073709551616"),
        *('""', "[]", "{}", "1979-05-27T07:32:00Z", "07:32:00", "é", "\x00", "\ufeff", "\u202e"),
    )
)


def words_of(texts: Iterable[bytes]) -> tuple[bytes, ...]:
    """All words that are in these texts."""
    return tuple(sorted({word for text in texts for word in _WORD.findall(text) if word.strip()}))


def mutate(data: bytes, largest: int, seed: int, plainly: Plainly, *, words: Callable[[], Sequence[bytes]]) -> bytes:
    """`data` with some changes, the same for the same `seed` as far as `plainly` is; at most `largest` bytes.

    `words` gives those that the reader knows.
    """
    known = words()
    rng = random.Random(seed)
    if not data or rng.random() < 0.2:
        return plainly(data, largest)
    parts = data.splitlines(keepends=True) if rng.random() < 0.3 else _WORD.findall(data)
    for _ in range(min(int(rng.expovariate(0.6)) + 1, 8)):
        at = rng.randrange(len(parts) + 1)
        match rng.randrange(6):
            case 0:
                del parts[at : at + rng.choice((1, 1, 2, 3))]
            case 1:
                parts.insert(at, rng.choice(known))
            case 2:
                parts[at : at + 1] = [rng.choice(known if rng.random() < 0.7 else _SYNTAX)]
            case 3:
                parts.insert(at, rng.choice(_SYNTAX))
            case 4:
                start = rng.randrange(len(parts) + 1)
                parts[at:at] = parts[start : start + rng.choice((1, 2, 4, 8))]
            case _:
                parts[at : at + 1] = [plainly(each, len(each) + 16) for each in parts[at : at + 1]]
    return b"".join(parts)[:largest]
