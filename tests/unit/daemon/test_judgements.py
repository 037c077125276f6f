# SPDX-License-Identifier: GPL-2.0-or-later
"""The same bytes are judged once, and other bytes never for them."""

from __future__ import annotations

import mmap
import os
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from klpd.daemon import judgements as judgements_module
from klpd.daemon.enforcement import Judged
from klpd.daemon.judgements import Judgements, Opened
from klpd.errors import KernelError, ModuleFormatError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from klpd.daemon.judgements import Version

WAIT = 30.0
LONG_AGO = 1_000_000_000


class Judge:
    """Judges bytes by `answers`; asks `meanwhile` to do something while it judges."""

    def __init__(self) -> None:
        self.answers: dict[bytes, Judged | None | Exception] = {}
        self.asked: list[tuple[bytes, int]] = []
        self.renewed: list[tuple[str, int]] = []
        self.holds = True
        self.meanwhile: Callable[[], object] = lambda: None

    def examine(self, data: bytes, file: str, pid: int) -> Judged | None:
        self.asked.append((data, pid))
        self.meanwhile()
        answer = self.answers.get(data, Judged(file, data.hex(), None, obstructed=False))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def renew(self, judged: Judged, file: str, pid: int) -> bool:
        self.renewed.append((file, pid))
        return self.holds


class Openers:
    """Open files of a directory, one after another, and have them judged."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.judge = Judge()
        self.harmless: list[str] = []
        self.judgements = Judgements(self.judge, self._harmless)

    def write(self, name: str, data: bytes) -> Path:
        path = self.directory / name
        path.write_bytes(data)
        return path

    def open(self, path: Path, pid: int = 1) -> tuple[bool, bool]:
        """Whether who opens it is let go, and whether he is to ask again."""
        done, again = threading.Event(), threading.Event()
        fd = os.open(path, os.O_RDONLY)
        try:
            self.judgements.settle(Opened(fd, str(path), pid), done.set, again.set)
        finally:
            os.close(fd)
        return done.is_set(), again.is_set()

    def _harmless(self, opened: Opened, _version: Version) -> None:
        self.harmless.append(opened.file)


@pytest.fixture
def openers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Openers:
    """Files whose last change is long ago, as far as their judgement can tell."""
    monkeypatch.setattr("klpd.daemon.judgements.time.time", lambda: 1e11)
    return Openers(tmp_path)


def test_who_comes_later_gets_the_verdict_renewed(openers: Openers) -> None:
    file = openers.write("a.ko", b"one")
    assert [openers.open(file, pid) for pid in (7, 8, 9)] == [(True, False)] * 3
    assert openers.judge.asked == [(b"one", 7)]
    assert openers.judge.renewed == [(str(file), 8), (str(file), 9)]


def test_a_verdict_that_does_not_hold_any_more_is_given_anew(openers: Openers) -> None:
    file = openers.write("a.ko", b"one")
    openers.open(file, 7)
    openers.judge.holds = False
    openers.open(file, 8)
    assert openers.judge.asked == [(b"one", 7), (b"one", 8)]


def test_another_name_of_the_file_is_not_judged_again(openers: Openers) -> None:
    file = openers.write("a.ko", b"one")
    os.link(file, openers.directory / "b.ko")
    openers.open(file)
    openers.open(openers.directory / "b.ko")
    assert len(openers.judge.asked) == 1


@pytest.mark.parametrize("change", ["write", "replace", "touch"])
def test_a_file_that_was_changed_is_read_again(openers: Openers, change: str) -> None:
    file = openers.write("a.ko", b"one")
    openers.open(file)
    if change == "write":
        openers.write("a.ko", b"two")
    elif change == "replace":
        openers.write("new", b"two").rename(file)
    else:
        os.utime(file, ns=(LONG_AGO, LONG_AGO))
    openers.open(file)
    assert openers.judge.asked[1:] == ([(b"one", 1)] if change == "touch" else [(b"two", 1)])


def test_a_file_that_changes_while_it_is_judged_is_judged_again(openers: Openers) -> None:
    file = openers.write("a.ko", b"one")
    openers.judge.meanwhile = lambda: openers.write("a.ko", b"two")
    openers.open(file)
    openers.judge.meanwhile = lambda: None
    openers.open(file)
    assert [data for data, _pid in openers.judge.asked] == [b"one", b"two"]


def test_a_file_written_through_a_mapping_just_now_is_read_again(
    openers: Openers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel does not tell of every change through a mapping."""
    monkeypatch.undo()
    now = [100.0]
    monkeypatch.setattr("klpd.daemon.judgements.time.monotonic", lambda: now[0])
    file = openers.write("a.ko", b"one")
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapping:
        mapping[:3] = b"oNe"
        openers.open(file)
        mapping[:3] = b"two"
        now[0] += judgements_module._FRESH + 0.01
        openers.open(file)
    now[0] += judgements_module._FRESH + 0.01
    openers.open(file)
    assert [data for data, _pid in openers.judge.asked] == [b"oNe", b"two"]
    assert len(openers.judge.renewed) == 1


def test_a_file_that_was_looked_at_long_ago_is_read_again_but_not_judged(
    openers: Openers, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("klpd.daemon.judgements.time.monotonic", lambda: now[0])
    file = openers.write("a.ko", b"one")
    openers.open(file)
    now[0] += judgements_module._SETTLED + 1
    openers.open(file, 8)
    assert openers.judge.asked == [(b"one", 1)]
    assert openers.judge.renewed == [(str(file), 8)]


def test_what_is_no_livepatch_is_told_once_and_lets_everyone_go(openers: Openers) -> None:
    file = openers.write("a.ko", b"plain")
    openers.judge.answers[b"plain"] = None
    assert [openers.open(file) for _opener in range(3)] == [(True, False)] * 3
    assert openers.harmless == [str(file)]
    assert len(openers.judge.asked) == 1


def test_what_cannot_be_read_is_complained_of_once(openers: Openers) -> None:
    file = openers.write("a.ko", b"bad")
    openers.judge.answers[b"bad"] = ModuleFormatError("truncated")
    with pytest.raises(ModuleFormatError):
        openers.open(file)
    assert openers.open(file) == (True, False)
    assert len(openers.judge.asked) == 1


def test_an_error_of_the_kernels_is_no_verdict(openers: Openers) -> None:
    file = openers.write("a.ko", b"one")
    openers.judge.answers[b"one"] = KernelError("the stack", 5)
    with pytest.raises(KernelError):
        openers.open(file)
    del openers.judge.answers[b"one"]
    assert openers.open(file) == (True, False)
    assert len(openers.judge.asked) == 2


@pytest.mark.parametrize("error", [None, KernelError("the stack", 5)], ids=["judged", "error"])
def test_who_comes_while_a_file_is_judged_is_called_when_it_is(openers: Openers, error: KernelError | None) -> None:
    file = openers.write("a.ko", b"one")
    if error is not None:
        openers.judge.answers[b"one"] = error
    judging, go = threading.Event(), threading.Event()

    def meanwhile() -> None:
        judging.set()
        go.wait(WAIT)

    def first() -> None:
        with nullcontext() if error is None else pytest.raises(KernelError):
            openers.open(file, 1)

    openers.judge.meanwhile = meanwhile
    thread = threading.Thread(target=first)
    thread.start()
    assert judging.wait(WAIT)
    order: list[str] = []
    fd = os.open(file, os.O_RDONLY)
    for pid in (2, 3):
        openers.judgements.settle(
            Opened(fd, str(file), pid), lambda: order.append("done"), lambda: order.append("again")
        )
    os.close(fd)
    assert order == []
    go.set()
    thread.join()
    assert order == ["again", "again"]
    assert openers.judge.asked == [(b"one", 1)]


def test_no_more_is_remembered_than_a_bound(openers: Openers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judgements_module, "_REMEMBERED", 2)
    files = [openers.write(f"{number}.ko", b"one") for number in range(3)]
    for file in (*files, files[2], files[1], files[0]):
        openers.open(file)
    assert len(openers.judge.asked) == 4
