# SPDX-License-Identifier: GPL-2.0-or-later
"""What klpd has to know after a restart: written by one thread, tried again, and no trouble to whoever asks for it."""

from __future__ import annotations

import errno
import os
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest

from klpd.daemon import state_files
from klpd.daemon.lost import LostEvents
from klpd.daemon.state_files import StateFiles, boot_id, replace_file
from klpd.daemon.store import Store
from klpd.daemon.unfinished import Unfinished
from klpd.model import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAIT = 20.0


class Disk:
    """A disk that is full for a while, or slow."""

    def __init__(self) -> None:
        self.full = False
        self.ready = threading.Event()
        self.ready.set()
        self.written: SimpleQueue[str] = SimpleQueue()
        self.tried: SimpleQueue[str] = SimpleQueue()

    def write(self, what: str) -> None:
        self.tried.put(what)
        assert self.ready.wait(WAIT)
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.written.put(what)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.setattr(state_files, "_FIRST_PAUSE", 0.01)
    return Disk()


@pytest.fixture
def told() -> SimpleQueue[str]:
    """What is told of trouble, as often as it changes."""
    return SimpleQueue()


@pytest.fixture
def files(told: SimpleQueue[str], disk: Disk) -> Iterator[StateFiles]:
    made = StateFiles(lambda: told.put(made.trouble))
    yield made
    disk.full = False
    disk.ready.set()
    made.stop(WAIT)


def test_whoever_asks_waits_for_no_disk_and_the_last_that_he_wants_written_is(files: StateFiles, disk: Disk) -> None:
    disk.ready.clear()
    files.write("jobs", lambda: disk.write("first"))
    assert disk.tried.get(timeout=WAIT) == "first"
    for each in ("second", "third"):
        files.write("jobs", lambda each=each: disk.write(each))  # type: ignore[misc]
    assert not files.settle(0.01)
    disk.ready.set()
    assert files.settle(WAIT)
    assert [disk.written.get(timeout=WAIT) for _each in range(2)] == ["first", "third"]
    assert disk.written.empty()


def test_what_cannot_be_written_is_tried_again_and_told_once_when_it_begins_and_ends(
    files: StateFiles, disk: Disk, told: SimpleQueue[str]
) -> None:
    disk.full = True
    files.write("history", lambda: disk.write("history"))
    assert told.get(timeout=WAIT) == "history: No space left on device"
    for _each in range(3):
        assert disk.tried.get(timeout=WAIT) == "history"
    assert not files.settle(WAIT)  # at once: it cannot be written
    files.write("jobs", lambda: disk.write("jobs"))
    disk.full = False
    assert told.get(timeout=WAIT) == ""
    assert files.settle(WAIT)
    assert {disk.written.get(timeout=WAIT) for _each in range(2)} == {"history", "jobs"}
    assert told.empty()


def test_one_that_fails_keeps_no_other_from_being_written(files: StateFiles, disk: Disk) -> None:
    def fail() -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    files.write("history", fail)
    files.write("jobs", lambda: disk.write("jobs"))
    assert disk.written.get(timeout=WAIT) == "jobs"
    assert files.trouble == "history: Read-only file system"


def test_a_half_of_a_file_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    replace_file(tmp_path / "jobs", b"before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        replace_file(tmp_path / "jobs", b"after")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("jobs", b"before")]


NESTED = b"[" * 100_000
NEWER = b'{"boot_id": 7, "of a newer klpd": true}'


def spoil(path: Path, how: str) -> None:
    match how:
        case "directory":
            path.mkdir()
        case "dangling":
            path.symlink_to(path / "nowhere")
        case "nested":
            path.write_bytes(NESTED)
        case "newer":
            path.write_bytes(NEWER)
        case _:
            path.write_bytes(b"\0garbage\xff")


@pytest.mark.parametrize("how", ["garbage", "directory", "dangling", "nested", "newer"])
@pytest.mark.parametrize("name", ["history", "jobs", "livepatches", "declared"])
def test_what_cannot_be_read_is_set_aside_and_klpd_starts_without_it(tmp_path: Path, name: str, how: str) -> None:
    spoil(tmp_path / name, how)
    store, unfinished = Store(tmp_path), Unfinished(tmp_path)
    store.observe(Stack())
    store.approve("0" * 64)
    assert (unfinished.jobs, store.history.boot_id) == ((), boot_id())
    assert Store(tmp_path).history.approved == ("0" * 64,)
    if (name, how) not in {("livepatches", "directory"), ("declared", "directory")}:
        assert any(each.name.startswith(f"{name}.unreadable-") for each in tmp_path.iterdir())


@pytest.mark.parametrize("folder", ["livepatches", "declared"])
@pytest.mark.parametrize("how", ["garbage", "directory", "dangling", "nested", "newer"])
def test_one_livepatch_that_cannot_be_read_hides_no_other(tmp_path: Path, folder: str, how: str) -> None:
    (tmp_path / folder).mkdir()
    spoil(tmp_path / folder / f"{'0' * 64}.json", how)
    assert Store(tmp_path).livepatches == ()


def test_a_directory_in_the_place_of_a_file_is_set_aside_when_that_is_written(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    replace_file(tmp_path / "jobs", b"jobs")
    assert (tmp_path / "jobs").read_bytes() == b"jobs"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_count_that_cannot_be_written_is_told_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("no directory")
    lost = LostEvents(tmp_path / "run" / "lost")
    assert [lost.untold(each) for each in (3, 3, 5)] == [3, 0, 2]
