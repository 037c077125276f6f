# SPDX-License-Identifier: GPL-2.0-or-later
"""Events are taken at once, though the kernel may be kept waiting for a file when klpd reads one."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest

from klpd.daemon import intake as intake_module
from klpd.daemon.intake import Intake
from klpd.daemon.lateness import Page
from klpd.errors import KernelError
from klpd.kernel.fanotify import Held

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT = 30.0
LONG = 60.0
SHORT = 0.2


class Events:
    """In the place of a group: what `comes` is read; a lease keeps the thread until it is given back, or called."""

    def __init__(self) -> None:
        self._ready = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
        self._queue: SimpleQueue[Held | KernelError | int] = SimpleQueue()
        self._libc = ctypes.CDLL(None)
        self.kept: SimpleQueue[int] = SimpleQueue()

    def fileno(self) -> int:
        return self._ready

    def comes(self, event: Held | KernelError | int) -> None:
        """An event, an error, or an event (by its number) that is kept from klpd until a signal comes."""
        self._queue.put(event)
        os.eventfd_write(self._ready, 1)

    def read(self) -> Held | None:
        try:
            os.eventfd_read(self._ready)
        except BlockingIOError:
            return None
        event = self._queue.get_nowait()
        if isinstance(event, KernelError):
            raise event
        if isinstance(event, int):
            self.kept.put(event)
            self._libc.pause()  # unlike what Python waits with, it ends when a signal has come
            return None
        return event


class Playing:
    """An intake, and what it did."""

    def __init__(self) -> None:
        self.events = Events()
        self.taken: SimpleQueue[Held] = SimpleQueue()
        self.failed: SimpleQueue[int] = SimpleQueue()
        self.begun = threading.Event()
        self.page = Page.new()
        self.relieved = False
        self.intake = Intake(
            self.events,
            self.taken.put,
            lambda error: self.failed.put(error.errno),
            begins=self.begun.set,
            page=self.page,
            held_for=lambda: LONG,
            relieved=lambda: self.relieved,
        )

    def look_until(self, true: Callable[[], bool], longest: float = LONG) -> bool:
        """Look after the readers, as a hold does, until something is so."""
        ends = time.monotonic() + WAIT
        while time.monotonic() < ends:
            self.intake.look_after(time.monotonic(), longest)
            if true():
                return True
            time.sleep(0.01)
        return False


@pytest.fixture
def playing() -> Iterator[Playing]:
    made = Playing()
    made.intake.start()
    yield made
    assert made.intake.stop(WAIT)


def intakes() -> int:
    return sum(each.name == "intake" for each in threading.enumerate())


def test_events_are_taken_in_their_order(playing: Playing) -> None:
    events = [Held(100 + number, number) for number in range(50)]
    for each in events:
        playing.events.comes(each)
    assert [playing.taken.get(timeout=WAIT) for _event in events] == events
    assert playing.begun.is_set()
    assert playing.look_until(lambda: playing.intake.look_after(time.monotonic(), LONG) is None)
    assert intakes() == 1


def test_a_file_that_is_kept_keeps_no_other_opener(playing: Playing) -> None:
    for number in range(5):
        playing.events.comes(number)
        assert playing.events.kept.get(timeout=WAIT) == number
        event = Held(100 + number, number)
        playing.events.comes(event)
        assert playing.look_until(lambda: not playing.taken.empty())
        assert playing.taken.get() == event
    assert playing.failed.empty()


def test_whoever_opens_a_file_that_is_kept_too_long_is_refused_and_told(playing: Playing) -> None:
    playing.events.comes(1)
    playing.events.kept.get(timeout=WAIT)
    assert playing.look_until(lambda: not playing.failed.empty(), longest=SHORT)
    assert playing.failed.get() == errno.EINTR
    assert playing.look_until(lambda: intakes() == 1)


def test_there_is_a_bound_on_threads_that_are_kept(playing: Playing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "_MOST_THREADS", 3)
    for number in range(6):
        playing.events.comes(number)
    assert playing.look_until(lambda: playing.events.kept.qsize() == 6)
    assert intakes() <= 3
    assert playing.failed.get(timeout=WAIT) == errno.EINTR


def test_an_event_that_cannot_be_had_is_told_and_the_next_is_taken(playing: Playing) -> None:
    playing.events.comes(KernelError("fanotify", errno.EMFILE))
    event = Held(100, 1)
    playing.events.comes(event)
    assert playing.taken.get(timeout=WAIT) is event
    assert playing.failed.get(timeout=WAIT) == errno.EMFILE
    assert playing.intake.well


def test_it_is_not_well_while_events_cannot_be_read_at_all(playing: Playing) -> None:
    playing.events.comes(KernelError("fanotify", errno.EBADF))
    assert playing.look_until(lambda: not playing.intake.well)
    playing.events.comes(Held(100, 1))
    assert playing.look_until(lambda: playing.intake.well)


def test_stopping_ends_a_thread_that_is_kept(playing: Playing) -> None:
    playing.events.comes(1)
    playing.events.kept.get(timeout=WAIT)
    assert playing.intake.stop(WAIT)
    assert intakes() == 0


def test_an_event_for_which_there_is_no_descriptor_is_left_to_who_has_one(
    playing: Playing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(_fd: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    playing.relieved = True
    with monkeypatch.context() as short:
        short.setattr(os, "dup", none_left)
        event = Held(100, 1)
        playing.events.comes(event)
        assert playing.look_until(lambda: playing.page.told().due == 1)
        assert playing.taken.empty()
        assert playing.page.told().taken == 0
    assert playing.taken.get(timeout=WAIT) is event
    assert playing.look_until(lambda: playing.page.told().due == 0)
    assert playing.page.told().taken == 1


def test_where_nobody_else_would_take_it_it_is_taken(playing: Playing, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_fd: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "dup", none_left)
    event = Held(100, 1)
    playing.events.comes(event)
    assert playing.taken.get(timeout=WAIT) is event
