# SPDX-License-Identifier: GPL-2.0-or-later
"""Who waits for a transition is woken by its end."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from klpd.daemon.transitions import Transitions
from klpd.kernel.guard_abi import TransitionEvent
from tests.builders import installed, stack

if TYPE_CHECKING:
    from collections.abc import Callable

LONG = 60.0
MOVING = stack(installed("klp_new", transition=True))


def event(generation: int, *, ended: bool, ago: float = 0.0) -> TransitionEvent:
    return TransitionEvent(time.monotonic_ns() - int(ago * 1e9), generation, "klp_new", ended)


def woken_by(transitions: Transitions, wake: Callable[[], None]) -> bool:
    waiter = threading.Thread(target=transitions.wait, args=(7, LONG), daemon=True)
    waiter.start()
    waiter.join(0.05)
    assert waiter.is_alive()
    wake()
    waiter.join(10)
    return not waiter.is_alive()


def test_its_end_wakes_who_waits() -> None:
    transitions = Transitions()
    assert woken_by(transitions, lambda: transitions.note(event(8, ended=True)))


def test_so_does_whoever_has_something_else_to_tell() -> None:
    transitions = Transitions()
    assert woken_by(transitions, transitions.wake)


def test_what_has_ended_already_is_not_waited_for() -> None:
    transitions = Transitions()
    transitions.note(event(8, ended=True))
    transitions.wait(7, LONG)


def test_waiting_ends_by_itself() -> None:
    Transitions().wait(7, 0.01)


def test_a_transition_began_when_the_guard_saw_it_begin() -> None:
    transitions = Transitions()
    transitions.note(event(8, ended=False, ago=100))
    since = transitions.since(MOVING)
    assert since is not None
    assert 99 < time.time() - since < 200


def test_one_that_nobody_saw_begin_began_when_it_was_first_met() -> None:
    transitions = Transitions()
    since = transitions.since(MOVING)
    assert since is not None
    assert transitions.since(MOVING) == since
    assert transitions.since(stack()) is None
