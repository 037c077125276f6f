# SPDX-License-Identifier: GPL-2.0-or-later
"""Time spans as systemd.time(7) writes them, each number with its unit: "90s", "1h 30min", "1.5s"."""

from __future__ import annotations

import re
from typing import Final

_UNITS: Final = {
    "usec us µs μs": 1e-6,
    "msec ms": 1e-3,
    "seconds second sec s": 1.0,
    "minutes minute min m": 60.0,
    "hours hour hr h": 3600.0,
    "days day d": 86400.0,
    "weeks week w": 604800.0,
}
"""As in systemd.time(7), but for months and years, which klpd waits for nothing."""
_SECONDS: Final = {name: seconds for names, seconds in _UNITS.items() for name in names.split()}
_TERM: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([^\W\d_]+)\s*")


def parse_duration(text: str) -> float:
    """The seconds that `text` means.  Raises ValueError."""
    total, at = 0.0, 0
    while (term := _TERM.match(text, at)) is not None and term[2] in _SECONDS:
        total += float(term[1]) * _SECONDS[term[2]]
        at = term.end()
    if at == 0 or at < len(text):
        raise ValueError('expected a time span with its unit, such as "90s" or "1h 30min"')
    return total
