# SPDX-License-Identifier: GPL-2.0-or-later
"""Times as people put them on a command line; a small part of systemd.time(7)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

_SPAN: Final = re.compile(r"(\d+) ?(s|sec|m|min|h|d|days?)( ago)?")
_SECONDS: Final = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "day": 86400, "days": 86400}


def span_seconds(text: str) -> int:
    """The seconds of a span, as "10min" is; a number alone is seconds.  Raises ValueError for anything else."""
    span = _SPAN.fullmatch(f"{text}s" if text.isascii() and text.isdigit() else text)
    if span is None or span[3]:
        raise ValueError(f"{text!r} is no span of time; use 90s, 10min or 2h")
    return int(span[1]) * _SECONDS[span[2]]


def since(text: str, now: datetime) -> float:
    """The time that `text` means, in seconds since 1970.

    An ISO 8601 date or time (local where it names no zone), "today", "yesterday", or a span before `now`, as "2h" is.
    Raises ValueError for anything else.
    """
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    match text:
        case "today":
            return midnight.timestamp()
        case "yesterday":
            return (midnight - timedelta(days=1)).timestamp()
    span = _SPAN.fullmatch(text)
    if span is not None:
        return now.timestamp() - int(span[1]) * _SECONDS[span[2]]
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; use 2026-03-01, '2026-03-01 14:00', today, yesterday or 2h") from None
    return time.timestamp()
