# SPDX-License-Identifier: GPL-2.0-or-later
"""Spans of time."""

from __future__ import annotations

import pytest

from klpd.ctl.spans import span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.9, "0s"),
        (12.7, "12s"),
        (60, "1min"),
        (288, "4min 48s"),
        (3600, "1h"),
        (3605, "1h"),
        (7384, "2h 3min"),
        (90061, "1d 1h"),
    ],
)
def test_spans_have_at_most_two_units(seconds: float, text: str) -> None:
    assert span(seconds) == text
