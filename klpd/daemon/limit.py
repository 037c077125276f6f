# SPDX-License-Identifier: GPL-2.0-or-later
"""A bound on how often one kind of thing is told, which counts what it withholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

_Kind = TypeVar("_Kind", bound="Hashable")


@dataclass(slots=True)
class _Span:
    began: float
    admitted: int = 0
    withheld: int = 0


class Limit(Generic[_Kind]):
    """Admits of each kind so many within `seconds` of the first.  Times are those of one clock, in seconds."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self.seconds = seconds
        self._spans: dict[_Kind, _Span] = {}

    def admits(self, kind: _Kind, now: float) -> bool:
        """Whether one more of a kind may be told now; it is counted if not."""
        span = self._spans.setdefault(kind, _Span(now))
        if span.admitted < self.most:
            span.admitted += 1
            return True
        span.withheld += 1
        return False

    def ended(self, now: float) -> dict[_Kind, int]:
        """The kinds whose spans are over, with how many of each were withheld: the next one begins another span."""
        over = {kind: span for kind, span in self._spans.items() if now - span.began >= self.seconds}
        for kind in over:
            del self._spans[kind]
        return {kind: span.withheld for kind, span in over.items() if span.withheld}

    def end(self) -> dict[_Kind, int]:
        """End all spans, however long they have been; how many were withheld of each kind."""
        return self.ended(float("inf"))
