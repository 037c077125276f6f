# SPDX-License-Identifier: GPL-2.0-or-later
"""No user gets so many answers at once that others wait for theirs."""

from __future__ import annotations

from concurrent.futures import Future
from typing import TYPE_CHECKING

import pytest

from klpd.daemon.callers import MOST_OF_ALL, MOST_OF_ONE, Callers
from klpd.errors import LimitError, NotAuthorizedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.errors import KlpdError

ROOT, ALICE = 0, 1000


class Bus:
    """Knows whose connections are: ":USER.NUMBER".  It tells when it is let."""

    def __init__(self, *, at_once: bool = True) -> None:
        self.asked: list[str] = []
        self._at_once = at_once
        self._waiting: list[tuple[str, Future[int]]] = []

    def ask(self, sender: str) -> Future[int]:
        self.asked.append(sender)
        answer: Future[int] = Future()
        self._waiting.append((sender, answer))
        if self._at_once:
            self.tell()
        return answer

    def tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for sender, answer in waiting:
            answer.set_result(int(sender[1:].partition(".")[0]))

    def does_not_know(self) -> None:
        for _sender, answer in self._waiting:
            answer.set_exception(NotAuthorizedError("whoever asked has left the bus"))


class Call:
    def __init__(self) -> None:
        self.uid: int | None = None
        self.error: KlpdError | None = None
        self.answered: Callable[[], None] = lambda: None

    def admitted(self, uid: int, answered: Callable[[], None]) -> None:
        self.uid, self.answered = uid, answered

    def refused(self, error: KlpdError) -> None:
        self.error = error


def calls(callers: Callers, uid: int, number: int) -> list[Call]:
    """That many calls, each on a connection of its own."""
    made = [Call() for _each in range(number)]
    for connection, call in enumerate(made):
        callers.admit(f":{uid}.{connection}", call)
    return made


def admitted(made: list[Call]) -> int:
    assert all((call.uid is None) is (call.error is not None) for call in made)
    assert all(isinstance(call.error, LimitError) for call in made if call.error is not None)
    return sum(call.uid is not None for call in made)


def test_a_user_has_so_many_answers_at_once_on_whichever_connections() -> None:
    callers = Callers(Bus().ask)
    made = calls(callers, ALICE, MOST_OF_ONE + 5)
    assert admitted(made) == MOST_OF_ONE
    made[0].answered()
    assert admitted(calls(callers, ALICE, 2)) == 1


def test_what_one_user_takes_is_no_others() -> None:
    callers = Callers(Bus().ask)
    assert admitted(calls(callers, ALICE, 1000)) == MOST_OF_ONE
    assert admitted(calls(callers, ALICE + 1, 1)) == 1


def test_all_users_together_have_a_bound_and_root_has_none() -> None:
    callers = Callers(Bus().ask)
    assert sum(admitted(calls(callers, uid, MOST_OF_ONE)) for uid in range(1000, 1100)) == MOST_OF_ALL
    assert admitted(calls(callers, ROOT, 1000)) == 1000


def test_the_bus_is_asked_once_for_a_connection() -> None:
    bus = Bus(at_once=False)
    callers = Callers(bus.ask)
    made = [Call(), Call(), Call()]
    callers.admit(":1000.1", made[0])
    callers.admit(":1000.1", made[1])
    assert (made[0].uid, made[1].uid) == (None, None)
    bus.tell()
    callers.admit(":1000.1", made[2])
    assert [call.uid for call in made] == [ALICE] * 3
    assert bus.asked == [":1000.1"]
    callers.forget()
    callers.admit(":1000.1", made[2])
    assert len(bus.asked) == 2


def test_few_wait_until_the_bus_has_told_whose_they_are() -> None:
    bus = Bus(at_once=False)
    callers = Callers(bus.ask)
    made = [Call() for _each in range(1000)]
    for call in made:
        callers.admit(":0.1", call)
    assert sum(call.error is None for call in made) < 100
    bus.tell()
    assert 0 < admitted(made) < 100


def test_whose_connection_the_bus_does_not_know_is_refused() -> None:
    bus = Bus(at_once=False)
    callers, call = Callers(bus.ask), Call()
    callers.admit(":1000.1", call)
    bus.does_not_know()
    assert isinstance(call.error, NotAuthorizedError)


@pytest.mark.parametrize("uid", [ROOT, ALICE])
def test_an_answer_counts_once(uid: int) -> None:
    callers = Callers(Bus().ask)
    for _each in range(3 * MOST_OF_ALL):
        (call,) = calls(callers, uid, 1)
        assert call.uid == uid
        call.answered()
