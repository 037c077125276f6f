# SPDX-License-Identifier: GPL-2.0-or-later
"""Spans of time as people read them; systemd.time(7) has the units."""

from __future__ import annotations

from typing import Final

_UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))


def span(seconds: float) -> str:
    """The two largest units of a span, "4min 48s"; less than a second is "0s"."""
    left = int(seconds)
    parts: list[tuple[int, str]] = []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count or parts:
            parts.append((count, unit))
    return " ".join(f"{count}{unit}" for count, unit in parts[:2] if count) or "0s"
