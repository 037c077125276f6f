# SPDX-License-Identifier: GPL-2.0-or-later
"""Which directories the hold watches, as they come and go.  The kernel's inotify is real; the marks are noted."""

from __future__ import annotations

import errno
import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from klpd.daemon.directories import Directories
from klpd.errors import KernelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

WAIT = 30.0


class Marks:
    def __init__(self) -> None:
        self.on: set[Path] = set()

    def watch(self, directory: Path) -> None:
        if not directory.is_dir():
            raise KernelError("fanotify_mark", errno.ENOENT)
        self.on.add(directory)

    def unwatch(self, directory: Path) -> None:
        self.on.remove(directory)


@pytest.fixture
def marks() -> Marks:
    return Marks()


@pytest.fixture
def directories(marks: Marks) -> Iterator[Directories]:
    made = Directories(marks)
    yield made
    made.stop()


def soon(true: Callable[[], bool]) -> bool:
    for _look in range(int(WAIT / 0.01)):
        if true():
            return True
        threading.Event().wait(0.01)
    return False


def folders(root: Path, *names: str) -> set[Path]:
    return {root / name for name in names}


def test_all_below_a_root_is_watched_and_no_link_is_followed(
    directories: Directories, marks: Marks, tmp_path: Path
) -> None:
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "elsewhere")
    directories.watch([tmp_path / "root"])
    assert marks.on == folders(tmp_path, "root", "root/a", "root/a/b")
    assert len(directories) == 3


def test_a_root_that_is_a_link_is_followed(directories: Directories, marks: Marks, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "root")
    directories.watch([tmp_path / "link"])
    assert marks.on == {tmp_path / "root"}


def test_what_is_made_later_is_watched(directories: Directories, marks: Marks, tmp_path: Path) -> None:
    directories.watch([tmp_path])
    (tmp_path / "a/b/c").mkdir(parents=True)
    assert soon(lambda: marks.on == {tmp_path} | folders(tmp_path, "a", "a/b", "a/b/c"))


def test_what_is_moved_in_is_watched(directories: Directories, marks: Marks, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "old/below").mkdir(parents=True)
    directories.watch([tmp_path / "root"])
    (tmp_path / "old").rename(tmp_path / "root/new")
    assert soon(lambda: marks.on == folders(tmp_path, "root", "root/new", "root/new/below"))


def test_a_root_that_is_not_there_is_watched_when_it_comes(
    directories: Directories, marks: Marks, tmp_path: Path
) -> None:
    directories.watch([tmp_path / "a/b/root"])
    assert marks.on == set()
    (tmp_path / "a/b/root/below").mkdir(parents=True)
    assert soon(lambda: marks.on == folders(tmp_path, "a/b/root", "a/b/root/below"))


def test_a_root_that_is_replaced_is_watched_again(directories: Directories, marks: Marks, tmp_path: Path) -> None:
    (tmp_path / "a/root").mkdir(parents=True)
    directories.watch([tmp_path / "a/root"])
    shutil.rmtree(tmp_path / "a")
    assert soon(lambda: len(directories) == 0)
    marks.on.clear()  # as the kernel does with the marks of what is deleted
    (tmp_path / "a/root").mkdir(parents=True)
    assert soon(lambda: marks.on == {tmp_path / "a/root"})


def test_what_is_named_no_more_is_let_alone(directories: Directories, marks: Marks, tmp_path: Path) -> None:
    for name in ("keep/below", "drop/below"):
        (tmp_path / name).mkdir(parents=True)
    directories.watch([tmp_path / "keep", tmp_path / "drop"])
    directories.watch([tmp_path / "keep"])
    assert marks.on == folders(tmp_path, "keep", "keep/below")
    (tmp_path / "drop/new").mkdir()
    (tmp_path / "keep/new").mkdir()
    assert soon(lambda: tmp_path / "keep/new" in marks.on)
    assert marks.on == folders(tmp_path, "keep", "keep/below", "keep/new")


def test_a_root_below_another_stays_watched_when_the_other_goes(
    directories: Directories, marks: Marks, tmp_path: Path
) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    directories.watch([tmp_path / "a", tmp_path / "a/b"])
    directories.watch([tmp_path / "a/b"])
    assert marks.on == folders(tmp_path, "a/b", "a/b/c")
