# SPDX-License-Identifier: GPL-2.0-or-later
"""Text fit for a terminal: without control characters, measured in columns, wrapped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def escape(text: str) -> str:
    """`text` with everything that does not print written out as \\n, \\x1b, \\u202e and the like.

    Names in module files, commands and paths are other people's bytes; a terminal must not obey them.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def width(text: str) -> int:
    """How many columns of a terminal `text` takes: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_columns(each) for each in text)


def _columns(character: str) -> int:
    from unicodedata import combining, east_asian_width

    if combining(character):
        return 0
    return 2 if east_asian_width(character) in ("W", "F") else 1


def wrap(text: str, columns: int | None) -> list[str]:
    """`text` in lines of at most `columns` (None: one line), broken at spaces only; at least one line.

    A longer word stays whole: a path or digest in two pieces cannot be copied.
    """
    if columns is None or width(text) <= columns:
        return [text]
    lines = [""]
    for word in text.split():
        if not lines[-1]:
            lines[-1] = word
        elif width(lines[-1]) + 1 + width(word) <= columns:
            lines[-1] += " " + word
        else:
            lines.append(word)
    return lines


def wrap_list(items: Sequence[str], columns: int, lines: int) -> list[str]:
    """`items` with commas between them, in at most `lines` lines of `columns`; those that do not fit are counted.

    The first item is there in any case.
    """
    whole = wrap(", ".join(items), columns)
    if len(whole) <= lines:
        return whole
    fitting: list[str] = []
    for count in range(1, len(items)):
        pieces = wrap(f"{', '.join(items[:count])}, ... and {len(items) - count} more; --json has all", columns)
        if fitting and len(pieces) > lines:
            break
        fitting = pieces
    return fitting or whole


def cut(text: str, columns: int) -> str:
    """The beginning of `text` that fits into `columns`, with dots at the end where something is missing."""
    if width(text) <= columns:
        return text
    while text and width(text) + 3 > columns:
        text = text[:-1]
    return (text + "...")[:columns]
