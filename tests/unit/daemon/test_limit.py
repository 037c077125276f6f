# SPDX-License-Identifier: GPL-2.0-or-later
"""A bound on how often something is told: nothing is lost, and one kind takes nothing from another."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from klpd.daemon.limit import Limit

MOST, SECONDS = 3, 10.0


def test_so_many_are_admitted_in_a_time_and_the_rest_is_counted() -> None:
    limit: Limit[str] = Limit(MOST, SECONDS)
    assert [limit.admits("late", now) for now in (0, 1, 2, 3, 9.9)] == [True, True, True, False, False]
    assert limit.admits("other", 3)
    assert limit.ended(9.99) == {}
    assert limit.ended(10) == {"late": 2}
    assert limit.ended(20) == {}
    assert limit.admits("late", 20)


def test_what_was_withheld_can_be_had_at_any_time() -> None:
    limit: Limit[str] = Limit(1, SECONDS)
    limit.admits("late", 0)
    limit.admits("late", 1)
    assert limit.end() == {"late": 1}
    assert limit.end() == {}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 5), st.booleans())))
def test_everything_is_admitted_or_counted_and_no_more_than_two_spans_admit_meet(
    happens: list[tuple[str, float, bool]],
) -> None:
    limit: Limit[str] = Limit(MOST, SECONDS)
    now, told, admitted = 0.0, Counter[str](), dict[str, list[float]]()
    for kind, pause, asks in happens:
        now += pause
        if asks:
            told.update(limit.ended(now))
        if limit.admits(kind, now):
            told[kind] += 1
            admitted.setdefault(kind, []).append(now)
    told.update(limit.end())
    assert told == Counter(kind for kind, _pause, _asks in happens)
    for times in admitted.values():
        assert all(late - early >= SECONDS for early, late in zip(times, times[2 * MOST :], strict=False))
