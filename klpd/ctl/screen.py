# SPDX-License-Identifier: GPL-2.0-or-later
"""A page that is shown again and again: on a terminal in its own place, elsewhere one after another."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from klpd.ctl.page import Line, Page

# console_codes(4), ECMA-48
_HOME: Final = "\x1b[H"
_CLEAR_REST_OF_LINE: Final = "\x1b[K"
_CLEAR_BELOW: Final = "\x1b[J"


class Screen(Protocol):
    """Shows pages."""

    @property
    def live(self) -> bool:
        """Whether a page takes the place of the one before."""
        ...

    def show(self, lines: Iterable[Line]) -> None: ...


class Terminal:
    """Rewrites itself.  What does not fit is left out, and counted."""

    live: Final = True

    def __init__(self, out: TextIO, page: Page) -> None:
        self._out = out
        self._page = page

    def show(self, lines: Iterable[Line]) -> None:
        shown = [self._page.render(each) for each in lines]
        room = os.get_terminal_size(self._out.fileno()).lines - 2
        if len(shown) > room > 0:
            shown = [*shown[: room - 1], f"... {len(shown) - room + 1} more lines"]
        text = "".join(f"{each}{_CLEAR_REST_OF_LINE}\n" for each in shown)
        self._out.write(f"{_HOME}{text}{_CLEAR_BELOW}")
        self._out.flush()


class Paper:
    """Goes on below."""

    live: Final = False

    def __init__(self, out: TextIO, page: Page) -> None:
        self._out = out
        self._page = page

    def show(self, lines: Iterable[Line]) -> None:
        self._out.write("".join(f"{self._page.render(each)}\n" for each in lines) + "\n")
        self._out.flush()
