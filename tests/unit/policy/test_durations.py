# SPDX-License-Identifier: GPL-2.0-or-later
"""Time spans, as systemd.time(7) has them."""

from __future__ import annotations

import pytest

from klpd.policy.durations import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5s", 5),
        ("5min", 300),
        ("90s", 90),
        ("1h 30min", 5400),
        ("1h30min", 5400),
        (" 2 h ", 7200),
        ("2hours", 7200),
        ("48hr", 172800),
        ("55s500ms", 55.5),
        ("300ms20s 5day", 432020.3),
        ("1.5s", 1.5),
        ("1w", 604800),
        ("250us", 0.00025),
        ("250µs", 0.00025),  # the micro sign
        ("250μs", 0.00025),  # the letter mu
        ("0s", 0),
    ],
)
def test_a_time_span_is_the_sum_of_its_terms(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    ["", " ", "5", "5 5s", "s", "-5s", "5x", "5S", "5s,", "1,5s", "5m5", "1month", "1e3s", "٣s", "infinity", ".5s"],
)
def test_anything_else_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected a time span"):
        parse_duration(text)
