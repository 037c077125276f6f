# SPDX-License-Identifier: GPL-2.0-or-later
"""What policy files say and are called, as messages show it: printable, on one line, and short.

The messages go into the journal, onto the bus and to terminals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_LONGEST: Final = 60


def shown(path: Path) -> str:
    """A path: what cannot be printed in it is escaped."""
    return printable(str(path))


def quoted(text: str) -> str:
    """Some text of a policy file."""
    return f'"{printable(shortened(text, _LONGEST))}"'


def shortened(text: str, length: int) -> str:
    """At most so many characters of `text`."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def printable(text: str) -> str:
    """`text`, with what cannot be printed escaped."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
