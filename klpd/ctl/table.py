# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables: columns as wide as what is in them, narrowed and wrapped where the page is narrower."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from klpd.ctl.page import Span, Tone, line
from klpd.ctl.text import escape, width, wrap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from klpd.ctl.page import Line, Page

_GAP: Final = "  "


def table(
    header: Sequence[str], rows: Sequence[Sequence[Span | str]], page: Page, *, indent: int = 0
) -> Iterator[Line]:
    """The lines of a table, with its header.  A cell is a string, or a span for its tone."""
    cells = [[Span(each, Tone.FAINT) for each in header], *(line(*row) for row in rows)]
    cells = [[Span(escape(each.text), each.tone) for each in row] for row in cells]
    widths = _widths(cells, page.width, indent)
    for row in cells:
        wrapped = [wrap(each.text, columns) for each, columns in zip(row, widths, strict=True)]
        for pieces in zip_longest(*wrapped, fillvalue=""):
            spans = (
                Span(piece + " " * (columns - width(piece)) + _GAP, cell.tone)
                for piece, columns, cell in zip(pieces, widths, row, strict=True)
            )
            yield line(" " * indent, *spans)


def _widths(cells: Sequence[Sequence[Span]], page_width: int | None, indent: int) -> list[int]:
    """The columns' widths: what they hold in one line; on a narrow page, down to their longest words."""
    columns = list(zip(*cells, strict=True))
    widths = [max(width(each.text) for each in column) for column in columns]
    if page_width is None:
        return widths
    least = [max(width(word) for each in column for word in each.text.split() or ("",)) for column in columns]
    room = page_width - indent - len(_GAP) * (len(widths) - 1)
    while sum(widths) > room and widths != least:
        spare = [have - need for have, need in zip(widths, least, strict=True)]
        widths[spare.index(max(spare))] -= 1
    return widths
