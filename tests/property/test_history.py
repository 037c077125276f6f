# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever changes were made, by whomever, each can be undone, the last one first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from klpd.daemon.store import History, Member, Moment

if TYPE_CHECKING:
    from collections.abc import Sequence

PLACES = st.lists(st.sampled_from("abc"), unique=True, max_size=2).map(
    lambda names: Moment(tuple(Member(name, name) for name in names))
)
ON_THE_WAY = st.lists(PLACES, max_size=2)


@dataclass(frozen=True)
class Change:
    """Somebody changes what is in force."""

    to: Moment


@dataclass(frozen=True)
class GoBack:
    """A job goes back by way of `through`, undoing the last change or to a time that is named.

    One that `fails` gets no further than that.
    """

    through: tuple[Moment, ...]
    to: Moment | None = None
    fails: bool = False


CHANGES = PLACES.map(Change)
WAYS_BACK = st.builds(GoBack, ON_THE_WAY.map(tuple), st.none() | PLACES, st.booleans())


def told(history: History, moments: Sequence[Moment]) -> History:
    """The history, once klpd has looked at each of these."""
    for each in moments:
        history = history.then(each)
    return history


@given(st.lists(CHANGES | WAYS_BACK, max_size=12))
def test_undoing_leads_through_all_that_was_there_before_each_change(events: list[Change | GoBack]) -> None:
    history = History("boot")
    undo: list[Moment] = []  # what was there before each change that is not undone
    present = Moment()
    for event in events:
        if isinstance(event, Change):
            history = history.then(event.to)
            undo, present = changed(undo, present, event.to)
            continue
        wanted = event.to if event.to is not None else history.before
        if wanted is None:
            continue
        undoing = event.to is None
        way = [*event.through, *([] if event.fails else [wanted])]
        history = told(history.set_out(undoing=undoing), way).arrived()
        end = way[-1] if way else present
        if undoing and undo and (end == undo[-1] or undo[-1] in way):
            # It is undone; what came after that on the way, if anything, is a change of its own.
            after = way[way.index(undo[-1]) + 1 :]
            present = undo.pop()
            for each in after:
                undo, present = changed(undo, present, each)
        else:
            undo, present = changed(undo, present, end)
    assert history.moments[-1] == present
    for before in reversed(undo):
        assert history.before == before
        history = told(history.set_out(undoing=True), [before]).arrived()
        assert history.moments[-1] == before
    assert history.before is None


def changed(undo: list[Moment], present: Moment, to: Moment) -> tuple[list[Moment], Moment]:
    return ([*undo, present], to) if to != present else (undo, present)
