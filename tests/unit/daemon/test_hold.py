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
from klpd.daemon.enforcement import Judged
from klpd.daemon.fallback import FileLoad
from klpd.daemon.hold import Hold
from klpd.errors import KernelError, ModuleFormatError
from klpd.kernel.fanotify import Held
from klpd.kernel.guard_abi import GuardMode
from klpd.kernel.threads import Thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LONG = 60.0
SHORT = 0.05
WAIT = 30.0
"""For what comes at once, unless it never comes."""


class PlayedGroup:
    """In the place of klpd.kernel.fanotify.Fanotify.

    `opens` and `reads` make somebody wait; `allowed` and `refused` give who was answered.
    """

    def __init__(self) -> None:
        self._events = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
        self._waiting: SimpleQueue[Held | Exception] = SimpleQueue()
        self.allowed: SimpleQueue[Held] = SimpleQueue()
        self.refused: SimpleQueue[Held] = SimpleQueue()
        self.ignored: SimpleQueue[str] = SimpleQueue()
        self.heeded: list[str] = []
        self.closed = threading.Event()
        self.mark_error: KernelError | None = None

    def fileno(self) -> int:
        return self._events

    def opens(self, path: Path, pid: int = 1) -> Held:
        opening = Held(os.open(path, os.O_RDONLY), pid)
        self._happens(opening)
        return opening

    def reads(self, path: Path, tid: int = 1) -> Held:
        reader = Held(os.open(path, os.O_RDONLY), tid, reading=True)
        self._happens(reader)
        return reader

    def fails(self, error: Exception) -> None:
        """The next read does."""
        self._happens(error)

    def overflows(self) -> None:
        self._happens(KernelError("fanotify", errno.EOVERFLOW))

    def read(self) -> Held | None:
        try:
            os.eventfd_read(self._events)
        except BlockingIOError:
            return None
        event = self._waiting.get_nowait()
        if isinstance(event, Exception):
            raise event
        return event

    def allow(self, opening: Held) -> None:
        self.allowed.put(opening)

    def refuse(self, held: Held) -> None:
        self.refused.put(held)

    def ignore(self, fd: int) -> None:
        if self.mark_error is not None:
            raise self.mark_error
        self.ignored.put(os.readlink(f"/proc/self/fd/{fd}"))

    def heed(self, fd: int) -> None:
        self.heeded.append(os.readlink(f"/proc/self/fd/{fd}"))

    def flush(self) -> None: ...

    def watch(self, directory: int) -> None: ...

    def unwatch(self, directory: int) -> None: ...

    def close(self) -> None:
        self.closed.set()

    def _happens(self, event: Held | Exception) -> None:
        self._waiting.put(event)
        os.eventfd_write(self._events, 1)


class Judge:
    """Judges as `answers` say, by the file's bytes; an Event among them makes it hang until that is set.

    `renewed` has whom a verdict was renewed for, while `holds`.
    """

    def __init__(self) -> None:
        self.answers: dict[bytes, Judged | None | Exception | threading.Event] = {}
        self.asked: SimpleQueue[tuple[bytes, str, int]] = SimpleQueue()
        self.renewed: SimpleQueue[tuple[Judged, str, int]] = SimpleQueue()
        self.holds = True

    def examine(self, data: bytes, file: str, pid: int) -> Judged | None:
        self.asked.put((data, file, pid))
        answer = self.answers[data]
        if isinstance(answer, threading.Event):
            answer.wait(WAIT)
            return JUDGED
        if isinstance(answer, Exception):
            raise answer
        return answer

    def renew(self, judged: Judged, file: str, pid: int) -> bool:
        self.renewed.put((judged, file, pid))
        return self.holds


class Told:
    """In the place of klpd.daemon.record.Record."""

    def __init__(self) -> None:
        self.late: SimpleQueue[tuple[str, int]] = SimpleQueue()
        self.refused: SimpleQueue[int] = SimpleQueue()

    def hold_timed_out(self, file: str, pid: int, user: int | None, *, reading: bool) -> None:
        self.late.put((file, pid))

    def hold_refused(self, error: KernelError) -> None:
        self.refused.put(error.errno)


class Loader:
    """In the place of klpd.daemon.fallback.Fallback: what is loaded is what `loads` has, by the thread."""

    def __init__(self) -> None:
        self.calls: dict[int, list[bool | None | Exception]] = {}
        self.loads: dict[int, FileLoad | Exception | threading.Event | None] = {}
        self.asked: SimpleQueue[tuple[bytes, str, int]] = SimpleQueue()
        self.told: SimpleQueue[FileLoad] = SimpleQueue()

    def is_loading(self, tid: int) -> bool | None:
        call = self.calls[tid].pop(0)
        if isinstance(call, Exception):
            raise call
        return call

    def judge(self, data: bytes, file: str, tid: int) -> FileLoad | None:
        self.asked.put((data, file, tid))
        load = self.loads[tid]
        if isinstance(load, threading.Event):
            load.wait(WAIT)
            return REFUSED
        if isinstance(load, Exception):
            raise load
        return load

    def answered(self, load: FileLoad) -> None:
        self.told.put(load)


JUDGED = Judged("module.ko", "d1", None, obstructed=True)
REFUSED = FileLoad(Thread(7, 7, 0, "insmod"), JUDGED, GuardMode.ENFORCE)
LET_IN = FileLoad(Thread(7, 7, 0, "insmod"), JUDGED, GuardMode.OBSERVE)


@pytest.fixture
def loader() -> Loader:
    return Loader()


@pytest.fixture
def gate(group: PlayedGroup, judge: Judge, told: Told, loader: Loader) -> Iterator[Hold]:
    """A hold on readers, too."""
    made = Hold(judge, told, timeout=LONG, loads=loader)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> PlayedGroup:
    played = PlayedGroup()
    monkeypatch.setattr(hold_module, "Fanotify", lambda *, readers: played)
    return played


@pytest.fixture
def judge() -> Judge:
    return Judge()


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def hold(group: PlayedGroup, judge: Judge, told: Told) -> Iterator[Hold]:
    made = Hold(judge, told, timeout=LONG)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def module(tmp_path: Path) -> Path:
    path = tmp_path / "module.ko"
    path.write_bytes(b"module")
    return path


def closes(opening: Held) -> bool:
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
    judge.answers[b"module"] = JUDGED
    opening = group.opens(module, pid=7)
    assert group.allowed.get(timeout=WAIT) is opening
    assert judge.asked.get(timeout=WAIT) == (b"module", str(module), 7)
    assert closes(opening)
    assert group.ignored.empty()


def test_a_file_that_is_no_livepatch_is_ignored(hold: Hold, group: PlayedGroup, judge: Judge, module: Path) -> None:
    judge.answers[b"module"] = None
    group.opens(module)
    assert group.ignored.get(timeout=WAIT) == str(module)


def test_a_file_that_changes_while_it_is_judged_is_not_ignored(
    hold: Hold, group: PlayedGroup, judge: Judge, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ignore(_fd: int) -> None:
        module.write_bytes(b"something else")

    judge.answers[b"module"] = None
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
    judge.answers[b"module"] = None
    opening = group.opens(module)
    assert group.allowed.get(timeout=WAIT) is opening
    assert caplog.records == []


def test_an_opener_is_let_go_in_time_when_judging_hangs(
    hold: Hold, group: PlayedGroup, judge: Judge, told: Told, module: Path
) -> None:
    ended = hang(judge)
    hold.timeout = SHORT
    opening = group.opens(module, pid=7)
    assert group.allowed.get(timeout=WAIT) is opening
    assert told.late.get(timeout=WAIT) == (str(module), 7)
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


def test_who_was_refused_for_want_of_a_descriptor_is_told_and_others_are_held_on(
    hold: Hold, group: PlayedGroup, judge: Judge, told: Told, module: Path, caplog: pytest.LogCaptureFixture
) -> None:
    judge.answers[b"module"] = JUDGED
    group.fails(KernelError("fanotify", errno.EMFILE))
    opening = group.opens(module)
    assert group.allowed.get(timeout=WAIT) is opening
    assert told.refused.get(timeout=WAIT) == errno.EMFILE
    assert caplog.records == []


def test_it_goes_on_after_a_mistake_and_says_so(
    hold: Hold, group: PlayedGroup, judge: Judge, module: Path, caplog: pytest.LogCaptureFixture
) -> None:
    judge.answers[b"module"] = JUDGED
    group.fails(ValueError("a mistake in klpd"))
    opening = group.opens(module)
    assert group.allowed.get(timeout=WAIT) is opening
    assert [each.getMessage() for each in caplog.records] == ["those who open module files are held on after an error"]


def test_an_overflow_of_the_queue_is_told(
    hold: Hold, group: PlayedGroup, judge: Judge, module: Path, caplog: pytest.LogCaptureFixture
) -> None:
    judge.answers[b"module"] = JUDGED
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
    hold: Hold, group: PlayedGroup, judge: Judge, told: Told, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hangs, ended, judged = threading.Event(), threading.Event(), hang(judge)

    def hold_timed_out(file: str, pid: int, user: int | None, *, reading: bool) -> None:
        hangs.set()
        ended.wait(WAIT)

    monkeypatch.setattr(told, "hold_timed_out", hold_timed_out)
    hold.timeout = SHORT
    group.opens(module)
    assert hangs.wait(WAIT)
    hold.responsive()
    assert not hold.responsive()
    ended.set()
    judged.set()
    assert eventually(hold.responsive)


def test_it_is_not_responsive_while_nothing_but_errors_come(hold: Hold, group: PlayedGroup) -> None:
    failed = threading.Event()

    def read() -> Held | None:
        failed.set()
        raise KernelError("fanotify", errno.EBADF)

    group.read = read  # type: ignore[method-assign]
    group.overflows()
    assert failed.wait(WAIT)
    assert eventually(lambda: not hold.responsive())
    assert not hold.responsive()


def test_stopping_lets_everyone_go_and_waits_for_no_worker(
    group: PlayedGroup, judge: Judge, told: Told, module: Path
) -> None:
    hold = Hold(judge, told, timeout=LONG)
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


def test_a_reader_that_loads_nothing_goes_on_unjudged(
    gate: Hold, group: PlayedGroup, loader: Loader, module: Path
) -> None:
    loader.calls[7] = [False]
    reader = group.reads(module, tid=7)
    assert group.allowed.get(timeout=WAIT) is reader
    assert closes(reader)
    assert loader.asked.empty()
    assert group.ignored.empty()


def test_a_load_is_refused_and_then_told(gate: Hold, group: PlayedGroup, loader: Loader, module: Path) -> None:
    loader.calls[7], loader.loads[7] = [True], REFUSED
    reader = group.reads(module, tid=7)
    assert group.refused.get(timeout=WAIT) is reader
    assert loader.told.get(timeout=WAIT) is REFUSED
    assert loader.asked.get(timeout=WAIT) == (b"module", str(module), 7)
    assert closes(reader)
    assert group.allowed.empty()


def test_a_load_is_let_in_and_then_told(gate: Hold, group: PlayedGroup, loader: Loader, module: Path) -> None:
    loader.calls[7], loader.loads[7] = [True], LET_IN
    reader = group.reads(module, tid=7)
    assert group.allowed.get(timeout=WAIT) is reader
    assert loader.told.get(timeout=WAIT) is LET_IN


def test_a_reader_that_still_runs_is_asked_about_until_it_waits(
    gate: Hold, group: PlayedGroup, loader: Loader, module: Path
) -> None:
    loader.calls[7], loader.loads[7] = [None, None, True], REFUSED
    reader = group.reads(module, tid=7)
    assert group.refused.get(timeout=WAIT) is reader


def test_a_reader_whose_call_cannot_be_seen_is_let_go_and_told(
    gate: Hold, group: PlayedGroup, loader: Loader, module: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loader.calls[7] = [KernelError("cannot read /proc/7/syscall", errno.EPERM)]
    reader = group.reads(module, tid=7)
    assert group.allowed.get(timeout=WAIT) is reader
    assert closes(reader)
    assert eventually(
        lambda: [each.getMessage() for each in caplog.records]
        == ["not judged: cannot read /proc/7/syscall: Operation not permitted"]
    )


def test_the_file_of_a_load_that_is_no_livepatch_is_ignored(
    gate: Hold, group: PlayedGroup, loader: Loader, module: Path
) -> None:
    loader.calls[7], loader.loads[7] = [True], None
    reader = group.reads(module, tid=7)
    assert group.ignored.get(timeout=WAIT) == str(module)
    assert group.allowed.get(timeout=WAIT) is reader
    assert loader.told.empty()


def test_a_load_that_cannot_be_judged_goes_on(gate: Hold, group: PlayedGroup, loader: Loader, module: Path) -> None:
    loader.calls[7], loader.loads[7] = [True], ModuleFormatError("truncated")
    reader = group.reads(module, tid=7)
    assert group.allowed.get(timeout=WAIT) is reader
    assert closes(reader)


def test_a_load_goes_on_in_time_when_judging_hangs_and_is_told_as_late_only(
    gate: Hold, group: PlayedGroup, loader: Loader, told: Told, module: Path
) -> None:
    ended = threading.Event()
    loader.calls[7], loader.loads[7] = [True], ended
    gate.timeout = SHORT
    reader = group.reads(module, tid=7)
    assert group.allowed.get(timeout=WAIT) is reader
    assert told.late.get(timeout=WAIT) == (str(module), 7)
    ended.set()
    assert closes(reader)
    assert group.refused.empty()
    assert loader.told.empty()


def test_klpds_own_threads_never_wait(gate: Hold, group: PlayedGroup, loader: Loader, module: Path) -> None:
    ended = threading.Event()
    thread = threading.Thread(target=ended.wait)
    thread.start()
    reader = group.reads(module, tid=thread.native_id or 0)
    assert group.allowed.get(timeout=WAIT) is reader
    assert closes(reader)
    ended.set()
    thread.join()
    assert loader.asked.empty()


def eventually(true: Callable[[], bool]) -> bool:
    for _look in range(int(WAIT / 0.01)):
        if true():
            return True
        threading.Event().wait(0.01)
    return False


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes over 1000 are of the user of that number; all others may load modules."""
    monkeypatch.setattr(hold_module, "user_who_waits", lambda pid: pid if pid > 1000 else None)


def test_many_openers_of_a_file_have_it_judged_once(
    hold: Hold, group: PlayedGroup, judge: Judge, module: Path, users: None
) -> None:
    ended = hang(judge)
    openings = [group.opens(module, pid=2000 + number) for number in range(60)]
    openings += [group.opens(module, pid=number) for number in range(1, 5)]
    judge.asked.get(timeout=WAIT)
    ended.set()
    assert {group.allowed.get(timeout=WAIT).fd for _opening in openings} == {each.fd for each in openings}
    assert judge.asked.empty()
    assert judge.renewed.qsize() == len(openings) - 1
    assert all(map(closes, openings))


def test_who_may_load_modules_waits_for_no_other(
    hold: Hold, group: PlayedGroup, judge: Judge, module: Path, tmp_path: Path, users: None
) -> None:
    ended = hang(judge)
    others = [group.opens(module, pid=2000)]
    judge.asked.get(timeout=WAIT)
    for number in range(20):
        path = tmp_path / f"{number}.ko"
        path.write_bytes(b"others")
        others.append(group.opens(path, pid=2000 + number))
    mine = tmp_path / "mine.ko"
    mine.write_bytes(b"mine")
    judge.answers.update({b"others": JUDGED, b"mine": JUDGED})
    opening = group.opens(mine, pid=7)
    assert group.allowed.get(timeout=WAIT) is opening
    ended.set()
    assert [group.allowed.get(timeout=WAIT) in others for _opening in others] == [True] * len(others)


def test_of_others_no_more_are_held_than_there_are_descriptors_for(
    hold: Hold, group: PlayedGroup, judge: Judge, told: Told, module: Path, users: None
) -> None:
    judge.answers[b"module"] = JUDGED
    hold._most_held = 0
    other = group.opens(module, pid=2000)
    assert group.allowed.get(timeout=WAIT) is other
    assert told.late.get(timeout=WAIT) == (str(module), 2000)
    assert closes(other)
    opening = group.opens(module, pid=7)
    assert group.allowed.get(timeout=WAIT) is opening
    assert judge.asked.get(timeout=WAIT) == (b"module", str(module), 7)
    assert told.late.empty()


def test_a_descriptor_that_is_used_again_is_another_opener() -> None:
    """Whoever is dropped when he is overdue must not take the next with him who has his number."""
    assert Held(7, 1) != Held(7, 1)
    assert len({Held(7, 1), Held(7, 1)}) == 2


def test_openers_who_are_overdue_all_the_time_are_let_go_each_and_nobody_is_forgotten(
    hold: Hold, group: PlayedGroup, judge: Judge, told: Told, module: Path, users: None
) -> None:
    judge.answers[b"module"] = JUDGED
    hold.timeout = 0.002
    openings = []
    for _round in range(30):
        openings += [group.opens(module, pid=2000) for _opener in range(20)]
        for _opener in range(20):
            group.allowed.get(timeout=WAIT)
    assert all(map(closes, openings[-20:]))
    assert eventually(lambda: len(hold._waiting) == 0)
    assert hold.responsive() or eventually(hold.responsive)
