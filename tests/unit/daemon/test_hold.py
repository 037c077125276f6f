# SPDX-License-Identifier: GPL-2.0-or-later
"""The hold in front of a notification group that a test plays: who is let go, when, and whatever goes wrong."""

from __future__ import annotations

import errno
import os
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest

from klpd.daemon import hold as hold_module
from klpd.daemon.hold import Hold
from klpd.errors import KernelError, ModuleFormatError
from klpd.kernel.fanotify import Opening

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LONG = 60.0
SHORT = 0.05
WAIT = 30.0
"""For what comes at once, unless it never comes."""


class PlayedGroup:
    """In the place of klpd.kernel.fanotify.Fanotify: `opens` makes somebody wait, `allowed` gives who was let go."""

    def __init__(self) -> None:
        self._events = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
        self._waiting: SimpleQueue[Opening | Exception | None] = SimpleQueue()
        self.allowed: SimpleQueue[Opening] = SimpleQueue()
        self.ignored: SimpleQueue[str] = SimpleQueue()
        self.heeded: list[str] = []
        self.closed = threading.Event()
        self.mark_error: KernelError | None = None

    def fileno(self) -> int:
        return self._events

    def opens(self, path: Path, pid: int = 1) -> Opening:
        opening = Opening(os.open(path, os.O_RDONLY), pid)
        self._happens(opening)
        return opening

    def fails(self, error: Exception) -> None:
        """The next read does."""
        self._happens(error)

    def overflows(self) -> None:
        self._happens(None)

    def read(self) -> tuple[list[Opening], bool]:
        os.eventfd_read(self._events)
        event = self._waiting.get_nowait()
        if isinstance(event, Exception):
            raise event
        return ([], True) if event is None else ([event], False)

    def allow(self, opening: Opening) -> None:
        self.allowed.put(opening)

    def ignore(self, fd: int) -> None:
        if self.mark_error is not None:
            raise self.mark_error
        self.ignored.put(os.readlink(f"/proc/self/fd/{fd}"))

    def heed(self, fd: int) -> None:
        self.heeded.append(os.readlink(f"/proc/self/fd/{fd}"))

    def watch(self, directory: Path) -> None: ...

    def unwatch(self, directory: Path) -> None: ...

    def close(self) -> None:
        self.closed.set()

    def _happens(self, event: Opening | Exception | None) -> None:
        self._waiting.put(event)
        os.eventfd_write(self._events, 1)


class Judge:
    """Judges as `answers` say, by the file's bytes; an Event among them makes it hang until that is set."""

    def __init__(self) -> None:
        self.answers: dict[bytes, bool | Exception | threading.Event] = {}
        self.asked: SimpleQueue[tuple[bytes, str, int]] = SimpleQueue()

    def __call__(self, data: bytes, file: str, pid: int) -> bool:
        self.asked.put((data, file, pid))
        answer = self.answers[data]
        if isinstance(answer, threading.Event):
            answer.wait(WAIT)
            return True
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> PlayedGroup:
    played = PlayedGroup()
    monkeypatch.setattr(hold_module, "Fanotify", lambda: played)
    return played


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def late() -> SimpleQueue[tuple[str, int]]:
    return SimpleQueue()


@pytest.fixture
def hold(group: PlayedGroup, judge: Judge, late: SimpleQueue[tuple[str, int]]) -> Iterator[Hold]:
    made = Hold(judge, lambda file, pid: late.put((file, pid)), timeout=LONG)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "module.ko"
    path.write_bytes(b"module")
    return path


def closes(opening: Opening) -> bool:
    """Whether the descriptor of an opening is closed before long."""
    for _look in range(int(WAIT / 0.01)):
        try:
            os.fstat(opening.fd)
        except OSError:
            return True
        threading.Event().wait(0.01)
    return False


def hang(judge: Judge) -> threading.Event:
    judge.answers[b"module"] = ended = threading.Event()
    return ended


def test_an_opener_is_let_go_when_its_file_is_judged(
    hold: Hold, group: PlayedGroup, judge: Judge, module: Path
) -> None:
    judge.answers[b"module"] = True
    opening = group.opens(module, pid=7)
    assert group.allowed.get(timeout=WAIT) is opening
    assert judge.asked.get(timeout=WAIT) == (b"module", str(module), 7)
    assert closes(opening)
    assert group.ignored.empty()


def test_a_file_that_is_no_livepatch_is_ignored(hold: Hold, group: PlayedGroup, judge: Judge, module: Path) -> None:
    judge.answers[b"module"] = False
    group.opens(module)
    assert group.ignored.get(timeout=WAIT) == str(module)


def test_a_file_that_changes_while_it_is_judged_is_not_ignored(
    hold: Hold, group: PlayedGroup, judge: Judge, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ignore(_fd: int) -> None:
        module.write_bytes(b"something else")

    judge.answers[b"module"] = False
    monkeypatch.setattr(group, "ignore", ignore)
    group.opens(module)
    group.allowed.get(timeout=WAIT)
    assert group.heeded == [str(module)]


@pytest.mark.parametrize(
    "error",
    [KernelError("stack", errno.EIO), ModuleFormatError("no module"), ValueError("a mistake in klpd")],
    ids=["kernel", "format", "mistake"],
)
def test_an_opener_is_let_go_when_its_file_cannot_be_judged(
    hold: Hold, group: PlayedGroup, judge: Judge, module: Path, error: Exception
) -> None:
    judge.answers[b"module"] = error
    opening = group.opens(module)
    assert group.allowed.get(timeout=WAIT) is opening
    assert closes(opening)
    assert group.ignored.empty()


def test_an_opener_is_let_go_when_the_kernel_has_no_room_for_an_ignore_mark(
    hold: Hold, group: PlayedGroup, judge: Judge, module: Path, caplog: pytest.LogCaptureFixture
) -> None:
    group.mark_error = KernelError("fanotify_mark", errno.ENOSPC)
    judge.answers[b"module"] = False
    opening = group.opens(module)
    assert group.allowed.get(timeout=WAIT) is opening
    assert caplog.records == []


def test_an_opener_is_let_go_in_time_when_judging_hangs(
    hold: Hold, group: PlayedGroup, judge: Judge, late: SimpleQueue[tuple[str, int]], module: Path
) -> None:
    ended = hang(judge)
    hold.timeout = SHORT
    opening = group.opens(module, pid=7)
    assert group.allowed.get(timeout=WAIT) is opening
    assert late.get(timeout=WAIT) == (str(module), 7)
    os.fstat(opening.fd)  # the worker may still read
    ended.set()
    assert closes(opening)
    assert group.allowed.empty()


def test_openers_are_let_go_in_time_when_every_worker_hangs(
    hold: Hold, group: PlayedGroup, judge: Judge, module: Path
) -> None:
    ended = hang(judge)
    hold.timeout = SHORT
    openings = [group.opens(module) for _opener in range(50)]
    assert [group.allowed.get(timeout=WAIT) for _opening in openings] == openings
    ended.set()
    assert all(map(closes, openings))
    assert group.allowed.empty()


def test_klpd_itself_never_waits(hold: Hold, group: PlayedGroup, judge: Judge, module: Path) -> None:
    opening = group.opens(module, pid=os.getpid())
    assert group.allowed.get(timeout=WAIT) is opening
    assert closes(opening)
    assert judge.asked.empty()


def test_it_goes_on_after_an_error_and_says_so(
    hold: Hold, group: PlayedGroup, judge: Judge, module: Path, caplog: pytest.LogCaptureFixture
) -> None:
    judge.answers[b"module"] = True
    group.fails(OSError(errno.EMFILE, "too many open files"))
    opening = group.opens(module)
    assert group.allowed.get(timeout=WAIT) is opening
    assert [each.getMessage() for each in caplog.records] == ["the hold goes on after an error"]


def test_an_overflow_of_the_queue_is_told(
    hold: Hold, group: PlayedGroup, judge: Judge, module: Path, caplog: pytest.LogCaptureFixture
) -> None:
    judge.answers[b"module"] = True
    group.overflows()
    group.opens(module)
    group.allowed.get(timeout=WAIT)
    assert any("queue of them was full" in each.getMessage() for each in caplog.records)


def test_it_is_responsive_while_judging_hangs(hold: Hold, group: PlayedGroup, judge: Judge, module: Path) -> None:
    ended = hang(judge)
    group.opens(module)
    judge.asked.get(timeout=WAIT)
    hold.responsive()
    assert eventually(hold.responsive)
    ended.set()


def test_it_is_not_responsive_while_its_own_thread_hangs(
    hold: Hold, group: PlayedGroup, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, ended = threading.Event(), threading.Event()

    def read() -> tuple[list[Opening], bool]:
        hangs.set()
        ended.wait(WAIT)
        return PlayedGroup.read(group)

    monkeypatch.setattr(group, "read", read)
    group.overflows()
    assert hangs.wait(WAIT)
    hold.responsive()
    assert not hold.responsive()
    ended.set()
    assert eventually(hold.responsive)


def test_it_is_not_responsive_while_nothing_but_errors_come(hold: Hold, group: PlayedGroup) -> None:
    failed = threading.Event()

    def read() -> tuple[list[Opening], bool]:
        failed.set()
        raise OSError(errno.EIO, "an error that stays")

    group.read = read  # type: ignore[method-assign]
    group.overflows()
    assert failed.wait(WAIT)
    hold.responsive()
    assert not hold.responsive()


def test_stopping_lets_everyone_go_and_waits_for_no_worker(
    group: PlayedGroup, judge: Judge, late: SimpleQueue[tuple[str, int]], module: Path
) -> None:
    hold = Hold(judge, lambda file, pid: late.put((file, pid)), timeout=LONG)
    hold.start()
    alive = hold.alive
    ended = hang(judge)
    opening = group.opens(module)
    judge.asked.get(timeout=WAIT)
    hold.stop()
    assert group.closed.is_set()
    assert (alive, hold.alive) == (True, False)
    ended.set()
    assert closes(opening)
    assert group.allowed.empty()


def eventually(true: Callable[[], bool]) -> bool:
    for _look in range(int(WAIT / 0.01)):
        if true():
            return True
        threading.Event().wait(0.01)
    return False
