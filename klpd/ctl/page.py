# SPDX-License-Identifier: GPL-2.0-or-later
"""What klpctl prints, before it is characters: lines of spans, each with a tone that may become a colour.

Views make lines; `render` is the one place where they become text, and where control characters are taken out.
"""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from klpd.ctl.text import escape, width, wrap, wrap_list

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import TextIO


class Tone(Enum):
    """What a span means; the value is its SGR parameter (ECMA-48, console_codes(4))."""

    PLAIN = ""
    STRONG = "1"
    FAINT = "2"
    GOOD = "32"
    WARN = "33"
    BAD = "1;31"


class Span(NamedTuple):
    """A piece of a line."""

    text: str
    tone: Tone = Tone.PLAIN


Line = tuple[Span, ...]


class Page(NamedTuple):
    """What lines are fitted to.  Without a width nothing is wrapped."""

    width: int | None = None
    colour: bool = False

    def render(self, line: Line) -> str:
        """The characters of a line, without its end."""
        return "".join(self._painted(each) for each in line).rstrip(" ")

    def _painted(self, span: Span) -> str:
        text = escape(span.text)
        if not self.colour or span.tone is Tone.PLAIN or not text.strip():
            return text
        return f"\x1b[{span.tone.value}m{text}\x1b[0m"

    def paragraph(self, text: str, *, head: Line = (), indent: int = 0, tone: Tone = Tone.PLAIN) -> Iterator[Line]:
        """`text` behind `head`, wrapped, with the lines after the first indented by `indent` columns."""
        pieces = wrap(escape(text), self._columns_behind(head, indent))
        yield from _behind(head, indent, (Span(each, tone) for each in pieces))

    def listing(
        self, items: Sequence[str], *, lines: int, title: str = "", head: Line = (), indent: int = 0
    ) -> Iterator[Line]:
        """`items` behind `head` and `title`, with commas between them.  On a page with a width they take no more than
        so many lines, and those that do not fit are counted."""
        first, *others = (escape(each) for each in items)
        told = [escape(title) + first, *others]
        columns = self._columns_behind(head, indent)
        pieces = [", ".join(told)] if columns is None else wrap_list(told, columns, lines)
        yield from _behind(head, indent, map(Span, pieces))

    def _columns_behind(self, head: Line, indent: int) -> int | None:
        taken = sum(width(escape(each.text)) for each in head)
        return None if self.width is None else max(self.width - max(taken, indent), 20)


def _behind(head: Line, indent: int, pieces: Iterable[Span]) -> Iterator[Line]:
    for number, piece in enumerate(pieces):
        yield (*(head if number == 0 else (Span(" " * indent),)), piece)


def line(*spans: Span | str) -> Line:
    """A line of spans; a string is a plain one."""
    return tuple(Span(each) if isinstance(each, str) else each for each in spans)


def page_for(stream: TextIO, environment: Mapping[str, str]) -> Page:
    """What `stream` takes: its width where it is a terminal, colours where they are welcome."""
    return Page(_columns(stream) if stream.isatty() else None, wants_colour(environment, terminal=stream.isatty()))


def _columns(terminal: TextIO) -> int | None:
    try:
        columns = os.get_terminal_size(terminal.fileno()).columns
    except OSError:
        return None
    return columns or None


def wants_colour(environment: Mapping[str, str], *, terminal: bool) -> bool:
    """Whether to colour: $SYSTEMD_COLORS decides where it is set, then $NO_COLOR (https://no-color.org), then the
    terminal (systemd's Environment variables, common-variables.xml)."""
    said = environment.get("SYSTEMD_COLORS", "").lower()
    if said:
        return said not in ("0", "no", "n", "false", "f", "off")
    return terminal and not environment.get("NO_COLOR") and environment.get("TERM", "dumb") != "dumb"
