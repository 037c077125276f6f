# SPDX-License-Identifier: GPL-2.0-or-later
"""Where klpctl's output goes, and where its questions are answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.ctl.page import page_for
from klpd.ctl.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TextIO

    from klpd.ctl.page import Line
    from klpd.ctl.progress import Display
    from klpd.ctl.screen import Screen

_NARROWEST_LIVE: Final = 40


class Console:
    """Standard output and error, and whoever sits at a terminal."""

    def __init__(self, keyboard: TextIO, out: TextIO, err: TextIO, environment: Mapping[str, str]) -> None:
        self._keyboard = keyboard
        self.out = out
        self._err = err
        self._dumb = environment.get("TERM", "dumb") == "dumb"
        self.page = page_for(out, environment)

    def show(self, lines: Iterable[Line]) -> None:
        for each in lines:
            self.out.write(self.page.render(each) + "\n")

    def json(self, value: object, *, indent: int | None = 2) -> None:
        """`value` in the shape that klpd.plain gives it; control characters come out as \\u escapes."""
        import json

        from klpd.plain import to_plain

        self.out.write(json.dumps(to_plain(value), indent=indent) + "\n")

    def complain(self, text: str) -> None:
        """One line on standard error, after what has been shown."""
        self.out.flush()
        self._err.write(f"klpctl: {escape(text)}\n")
        self._err.flush()

    @property
    def attended(self) -> bool:
        """Whether there is somebody to be asked."""
        return self._keyboard.isatty() and self.out.isatty()

    def agrees(self, question: str) -> bool:
        """Ask a question that only a plain yes answers with yes."""
        self.out.write(f"{question} [y/N] ")
        self.out.flush()
        return self._keyboard.readline().strip().lower() in ("y", "yes")

    def display(self) -> Display:
        """What shows a job's progress here."""
        from klpd.ctl.progress import LiveLine, PlainLines

        columns = self.page.width
        return PlainLines(self.out) if columns is None or columns < _NARROWEST_LIVE else LiveLine(self.out, columns)

    def screen(self) -> Screen:
        """What shows a page again and again here."""
        from klpd.ctl.screen import Paper, Terminal

        return Paper(self.out, self.page) if self.page.width is None or self._dumb else Terminal(self.out, self.page)
