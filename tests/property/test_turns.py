# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever others do, who may load modules has his verdict within twice its time alone; and nobody is forgotten."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from klpd.daemon.turns import PATIENCE, Turns

if TYPE_CHECKING:
    from klpd.daemon.turns import Turn

WORKERS = 6
MOMENT = 1e-6


@dataclass(frozen=True)
class Opener:
    """Somebody who opens a file at a time, and how long its verdict takes with the processor to itself (s)."""

    number: int
    user: int | None
    comes: float
    work: float


class Machine:
    """One processor, which all who are served share alike; and a clock that jumps to what happens next."""

    def __init__(self, openers: list[Opener]) -> None:
        self.turns: Turns[Opener] = Turns(WORKERS)
        self.coming = sorted(openers, key=lambda each: (each.comes, each.number))
        self.left: dict[Turn[Opener], float] = {}
        self.ended: dict[Opener, float] = {}
        self.order: list[Opener] = []
        self.now = 0.0

    def run(self) -> None:
        while self.coming or self.left or len(self.turns):
            while self.coming and self.coming[0].comes <= self.now:
                opener = self.coming.pop(0)
                self.turns.add(opener, opener.user)
            while (turn := self.turns.take(self.now)) is not None:
                self.left[turn] = turn.item.work
                self.order.append(turn.item)
            self._advance(self._next() - self.now)

    def _next(self) -> float:
        nexts = [each.comes for each in self.coming[:1]]
        nexts += [self.now + left * len(self.left) for left in self.left.values()]
        wait = self.turns.until_patience_ends(self.now)
        if wait is not None:
            nexts.append(self.now + wait)
        return min(nexts)

    def _advance(self, seconds: float) -> None:
        share = seconds / len(self.left) if self.left else 0.0
        self.now += seconds
        for turn in list(self.left):
            self.left[turn] -= share
            if self.left[turn] <= MOMENT:
                del self.left[turn]
                self.turns.end(turn)
                self.ended[turn.item] = self.now


times = st.floats(0, 10, allow_nan=False)
works = st.floats(0.001, PATIENCE / 2, allow_nan=False)
"""What takes longer than PATIENCE waits for something else than the processor."""


@st.composite
def others(draw: st.DrawFn) -> list[Opener]:
    number = draw(st.integers(0, 60))
    users = draw(st.lists(st.integers(1, 5000), min_size=1, max_size=8))
    return [
        Opener(each, draw(st.sampled_from(users)), draw(times | st.just(5.0)), draw(works)) for each in range(number)
    ]


@given(others(), times, works)
def test_no_number_of_others_moves_his_verdict_by_more_than_twice_its_time(
    openers: list[Opener], comes: float, work: float
) -> None:
    his = Opener(-1, None, comes, work)
    machine = Machine([*openers, his])
    machine.run()
    assert machine.ended[his] - comes <= 2 * work + len(machine.ended) * MOMENT * WORKERS


@given(others(), st.lists(st.tuples(times, works), max_size=10))
def test_everybody_has_a_turn_once(openers: list[Opener], first: list[tuple[float, float]]) -> None:
    firsts = [Opener(-1 - each, None, *opener) for each, opener in enumerate(first)]
    machine = Machine([*openers, *firsts])
    machine.run()
    assert sorted(each.number for each in machine.order) == sorted(each.number for each in (*openers, *firsts))


@given(others())
def test_no_user_has_two_turns_while_another_waits_for_one(openers: list[Opener]) -> None:
    turns: Turns[Opener] = Turns(WORKERS)
    for each in openers:
        turns.add(each, each.user)
    waiting = {each.user: sum(other.user == each.user for other in openers) for each in openers}
    since: dict[int | None, int] = dict.fromkeys(waiting, 0)
    for now in range(len(openers)):
        turn = turns.take(now)
        assert turn is not None
        turns.end(turn)
        waiting[turn.item.user] -= 1
        for user, left in waiting.items():
            since[user] = 0 if user == turn.item.user or not left else since[user] + 1
        assert max(since.values()) < len(waiting)


def test_one_that_waits_for_a_disk_keeps_nobody_waiting_for_ever() -> None:
    turns: Turns[str] = Turns(WORKERS)
    for each in ("hangs", "waits"):
        turns.add(each, 1000)
    assert turns.take(0.0) is not None
    assert turns.take(0.0) is None
    assert turns.until_patience_ends(0.0) == PATIENCE
    served = turns.take(PATIENCE)
    assert served is not None
    assert served.item == "waits"


def test_hanging_files_of_others_leave_workers_for_who_may_load_modules() -> None:
    turns: Turns[int] = Turns(WORKERS)
    for each in range(100):
        turns.add(each, 1000 + each)
    taken = [turns.take(PATIENCE * moment) for moment in range(100)]
    assert sum(each is not None for each in taken) == WORKERS // 2
    for each in range(WORKERS):
        turns.add(1000 + each, None)
    assert sum(turns.take(0.0) is not None for _each in range(WORKERS)) == WORKERS - WORKERS // 2


def test_what_is_dropped_has_no_turn() -> None:
    turns: Turns[str] = Turns(WORKERS)
    turns.add("first", None)
    turns.add("other", 1000)
    assert (turns.drop("first"), turns.drop("other"), turns.drop("first")) == (True, True, False)
    assert len(turns) == 0
    assert turns.take(0.0) is None
