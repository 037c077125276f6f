# SPDX-License-Identifier: GPL-2.0-or-later
"""Nobody waits for klpd for longer than the policy says, whatever becomes of klpd, and nobody is let go too soon."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from klpd.daemon.lateness import GRACE, Lateness, Page, Told

if TYPE_CHECKING:
    from collections.abc import Iterator

SECOND: Final = 1_000_000_000
TIMEOUT: Final = 5 * SECOND
NOW: Final = 1000 * SECOND
LOOK: Final = SECOND // 4
IDLE: Final = Told(taken=7, reading=0, waiting=0, timeout=TIMEOUT)


@pytest.fixture
def page() -> Iterator[Page]:
    made = Page.new()
    yield made
    made.close()


def test_both_processes_see_the_same_page(page: Page) -> None:
    other = Page(os.dup(page.fd))
    page.holds_for(2.5)
    page.took_one()
    page.reads_until(3.0)
    page.waits_until(2.0)
    assert other.told() == Told(1, 3 * SECOND, 2 * SECOND, TIMEOUT // 2)
    assert other.told().due == 2 * SECOND
    page.waits_until(None)
    assert other.told().due == 3 * SECOND
    page.reads_until(None)
    assert other.told().due == 0
    other.close()


def looks(lateness: Lateness, told: Told, *, unread: bool, start: int = NOW, end: int = NOW + 60 * SECOND) -> int:
    """After how many nanoseconds all are let go, looking again and again; -1 if never."""
    for now in range(start, end, LOOK):
        if lateness.look(told, unread=unread, now=now):
            return now - start
    return -1


def test_who_is_not_taken_notice_of_waits_for_the_timeout_and_no_longer() -> None:
    assert TIMEOUT <= looks(Lateness(), IDLE, unread=True) <= TIMEOUT + 2 * LOOK


@pytest.mark.parametrize("field", ["reading", "waiting"])
def test_who_was_taken_notice_of_waits_until_his_answer_is_due(field: str) -> None:
    told = replace(IDLE, **{field: NOW + TIMEOUT})
    assert TIMEOUT + GRACE <= looks(Lateness(), told, unread=False) <= TIMEOUT + GRACE + 2 * LOOK


def test_as_long_as_klpd_takes_events_nobody_is_let_go_though_there_are_always_more() -> None:
    lateness = Lateness()
    for each in range(200):
        assert not lateness.look(replace(IDLE, taken=each), unread=True, now=NOW + each * LOOK)


def test_once_klpd_was_late_nobody_else_waits_until_it_has_done_anything() -> None:
    lateness = Lateness()
    late = looks(lateness, IDLE, unread=True)
    assert lateness.late
    assert not lateness.look(IDLE, unread=False, now=NOW + late + LOOK)
    assert lateness.at_ease(IDLE, unread=False)
    assert lateness.look(IDLE, unread=True, now=NOW + late + 2 * LOOK)
    taken = replace(IDLE, taken=IDLE.taken + 1)
    assert not lateness.look(taken, unread=True, now=NOW + late + 3 * LOOK)
    assert not lateness.late


def test_who_says_that_it_is_late_is() -> None:
    assert Lateness().look(replace(IDLE, reading=1), unread=True, now=NOW)


def test_while_nobody_waits_there_is_nothing_to_look_at() -> None:
    lateness = Lateness()
    assert lateness.at_ease(IDLE, unread=False)
    assert not lateness.at_ease(IDLE, unread=True)
    assert not lateness.at_ease(replace(IDLE, waiting=NOW + TIMEOUT), unread=False)


@given(
    st.lists(
        st.tuples(st.sampled_from(["take", "answer", "come", "nothing"]), st.integers(1, 40)), min_size=1, max_size=60
    )
)
def test_whatever_klpd_does_until_it_stops_the_last_who_waits_is_let_go_in_time(moves: list[tuple[str, int]]) -> None:
    lateness, now, queue, held, taken = Lateness(), NOW, 0, list[int](), 0
    for move, steps in moves:
        match move:
            case "come":
                queue += 1
            case "take" if queue:
                queue, taken = queue - 1, taken + 1
                held.append(now + TIMEOUT)
            case "answer" if held:
                held.pop(0)
            case _:
                pass
        for _each in range(steps):
            now += LOOK
            while held and held[0] <= now:  # klpd itself lets them go
                held.pop(0)
            told = Told(taken, 0, held[0] if held else 0, TIMEOUT)
            if lateness.look(told, unread=queue > 0, now=now):
                queue = 0
    # From here on it does nothing any more.
    told = Told(taken, 0, held[0] if held else 0, TIMEOUT)
    last = looks(lateness, told, unread=queue > 0, start=now)
    assert last <= TIMEOUT + GRACE + 2 * LOOK
    assert (last >= 0) is bool(queue or held)
