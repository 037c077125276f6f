# SPDX-License-Identifier: GPL-2.0-or-later
"""Which directories the hold watches, as they come and go.  The kernel's inotify is real; the marks are noted."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

import pytest

from klpd.daemon.directories import Directories
from klpd.errors import KernelError
from klpd.kernel.file_handles import handle_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from klpd.kernel.file_handles import Handle

WAIT = 30.0


class Marks:
    """Marks on directories below one, which go with those that are renamed, and end with those that are removed."""

    def __init__(self, top: Path) -> None:
        self._top = top
        self._marked: set[Handle] = set()

    @property
    def on(self) -> set[Path]:
        """The directories that are marked, by the names that they have now."""
        there = [each for each in (self._top, *self._top.rglob("*")) if each.is_dir() and not each.is_symlink()]
        return {each for each in there if self._is_marked(each)}

    def watch(self, directory: int) -> None:
        self._marked.add(_handle(directory))

    def unwatch(self, directory: int) -> None:
        if _handle(directory) not in self._marked:
            raise KernelError("fanotify_mark", errno.ENOENT)
        self._marked.remove(_handle(directory))

    def _is_marked(self, directory: Path) -> bool:
        fd = os.open(directory, os.O_PATH)
        try:
            return _handle(fd) in self._marked
        finally:
            os.close(fd)


def _handle(directory: int) -> Handle:
    handle = handle_of(directory)
    if handle is None:
        pytest.skip("the file system has no handles")
    return handle


@pytest.fixture
def marks(tmp_path: Path) -> Marks:
    return Marks(tmp_path)


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


def watch(directories: Directories, roots: list[Path]) -> None:
    """Have these watched, and come back when they are."""
    done = threading.Event()
    directories.watch(roots, done.set)
    assert done.wait(WAIT)


def folders(root: Path, *names: str) -> set[Path]:
    return {root / name for name in names}


def test_all_below_a_root_is_watched_and_no_link_is_followed(
    directories: Directories, marks: Marks, tmp_path: Path
) -> None:
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root/link").symlink_to(tmp_path / "elsewhere")
    watch(directories, [tmp_path / "root"])
    assert marks.on == folders(tmp_path, "root", "root/a", "root/a/b")
    assert len(directories) == 3


def test_a_root_that_is_a_link_is_followed(directories: Directories, marks: Marks, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "root")
    watch(directories, [tmp_path / "link"])
    assert marks.on == {tmp_path / "root"}


def test_what_is_made_later_is_watched(directories: Directories, marks: Marks, tmp_path: Path) -> None:
    watch(directories, [tmp_path])
    (tmp_path / "a/b/c").mkdir(parents=True)
    assert soon(lambda: marks.on == {tmp_path} | folders(tmp_path, "a", "a/b", "a/b/c"))


def test_what_is_moved_in_is_watched(directories: Directories, marks: Marks, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "old/below").mkdir(parents=True)
    watch(directories, [tmp_path / "root"])
    (tmp_path / "old").rename(tmp_path / "root/new")
    assert soon(lambda: marks.on == folders(tmp_path, "root", "root/new", "root/new/below"))


def test_a_root_that_is_not_there_is_watched_when_it_comes(
    directories: Directories, marks: Marks, tmp_path: Path
) -> None:
    watch(directories, [tmp_path / "a/b/root"])
    assert marks.on == set()
    (tmp_path / "a/b/root/below").mkdir(parents=True)
    assert soon(lambda: marks.on == folders(tmp_path, "a/b/root", "a/b/root/below"))


def test_a_root_that_is_replaced_is_watched_again(directories: Directories, marks: Marks, tmp_path: Path) -> None:
    (tmp_path / "a/root").mkdir(parents=True)
    watch(directories, [tmp_path / "a/root"])
    shutil.rmtree(tmp_path / "a")
    assert soon(lambda: len(directories) == 0)
    (tmp_path / "a/root").mkdir(parents=True)
    assert soon(lambda: marks.on == {tmp_path / "a/root"})


def test_what_is_named_no_more_is_let_alone(directories: Directories, marks: Marks, tmp_path: Path) -> None:
    for name in ("keep/below", "drop/below"):
        (tmp_path / name).mkdir(parents=True)
    watch(directories, [tmp_path / "keep", tmp_path / "drop"])
    watch(directories, [tmp_path / "keep"])
    assert marks.on == folders(tmp_path, "keep", "keep/below")
    (tmp_path / "drop/new").mkdir()
    (tmp_path / "keep/new").mkdir()
    assert soon(lambda: tmp_path / "keep/new" in marks.on)
    assert marks.on == folders(tmp_path, "keep", "keep/below", "keep/new")


def test_a_root_below_another_stays_watched_when_the_other_goes(
    directories: Directories, marks: Marks, tmp_path: Path
) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    watch(directories, [tmp_path / "a", tmp_path / "a/b"])
    watch(directories, [tmp_path / "a/b"])
    assert marks.on == folders(tmp_path, "a/b", "a/b/c")


def test_a_link_that_comes_is_followed(directories: Directories, marks: Marks, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    watch(directories, [tmp_path / "link"])
    assert directories.unwatched == (f"{tmp_path}/link (does not exist)",)
    (tmp_path / "link").symlink_to("real")
    assert soon(lambda: marks.on == {tmp_path / "real"})
    assert soon(lambda: directories.unwatched == ())


@pytest.mark.parametrize("how", ["remove", "rename over"])
@pytest.mark.parametrize("target", ["relative", "absolute", "by another link"])
def test_a_link_that_becomes_another_is_followed_and_its_old_target_let_alone(
    directories: Directories, marks: Marks, tmp_path: Path, how: str, target: str
) -> None:
    for name in ("one/a", "two/b", "links"):
        (tmp_path / name).mkdir(parents=True)
    link = tmp_path / "links/current"
    (tmp_path / "links/other").symlink_to("../two")
    link.symlink_to("../one")
    watch(directories, [link])
    assert marks.on == folders(tmp_path, "one", "one/a")
    leads = {"relative": "../two", "absolute": str(tmp_path / "two"), "by another link": "other"}[target]
    if how == "remove":
        link.unlink()
        link.symlink_to(leads)
    else:
        (tmp_path / "links/new").symlink_to(leads)
        (tmp_path / "links/new").rename(link)
    assert soon(lambda: marks.on == folders(tmp_path, "two", "two/b"))
    (tmp_path / "one/later").mkdir()
    (tmp_path / "two/later").mkdir()
    assert soon(lambda: marks.on == folders(tmp_path, "two", "two/b", "two/later"))


def test_links_in_the_midst_of_a_way_are_followed(directories: Directories, marks: Marks, tmp_path: Path) -> None:
    for name in ("releases/1/modules", "releases/2/modules", "site"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "site/current").symlink_to("../releases/1")
    (tmp_path / "entry").symlink_to(tmp_path / "site")
    watch(directories, [tmp_path / "entry/current/modules"])
    assert marks.on == {tmp_path / "releases/1/modules"}
    (tmp_path / "site/current").unlink()
    assert soon(lambda: marks.on == set())
    assert soon(
        lambda: directories.unwatched == (f"{tmp_path}/entry/current/modules ({tmp_path}/site/current does not exist)",)
    )
    (tmp_path / "site/current").symlink_to("../releases/2")
    assert soon(lambda: marks.on == {tmp_path / "releases/2/modules"})


def test_a_link_that_leads_nowhere_is_followed_when_its_target_comes(
    directories: Directories, marks: Marks, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to("a/target")
    watch(directories, [tmp_path / "link"])
    assert directories.unwatched == (f"{tmp_path}/link ({tmp_path}/a does not exist)",)
    (tmp_path / "a/target").mkdir(parents=True)
    assert soon(lambda: marks.on == {tmp_path / "a/target"})


def test_links_in_a_circle_and_files_are_told(directories: Directories, marks: Marks, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "file").touch()
    watch(directories, [tmp_path / "a", tmp_path / "file/below"])
    circle, file = directories.unwatched
    assert circle.startswith(f"{tmp_path}/a (too many links")
    assert file == f"{tmp_path}/file/below ({tmp_path}/file is no directory)"


def test_what_is_moved_out_is_watched_and_counted_no_more(
    directories: Directories, marks: Marks, tmp_path: Path
) -> None:
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    watch(directories, [tmp_path / "root"])
    (tmp_path / "root/a").rename(tmp_path / "outside/a")
    assert soon(lambda: marks.on == {tmp_path / "root"})
    assert soon(lambda: len(directories) == 1)
    (tmp_path / "outside/a/new").mkdir()
    (tmp_path / "root/new").mkdir()
    assert soon(lambda: marks.on == folders(tmp_path, "root", "root/new"))


def test_what_is_renamed_is_counted_once(directories: Directories, marks: Marks, tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "over").mkdir()
    watch(directories, [tmp_path])
    (tmp_path / "a").rename(tmp_path / "over")
    assert soon(lambda: len(directories) == 4 and tmp_path / "over/b/c" in marks.on)
    (tmp_path / "a").mkdir()
    (tmp_path / "over/b").rename(tmp_path / "a/b")
    assert soon(lambda: len(directories) == 5 and tmp_path / "a/b/c" in marks.on)
    shutil.rmtree(tmp_path / "over")
    assert soon(lambda: len(directories) == 4)


def test_a_root_that_is_moved_away_is_told_and_watched_when_it_comes_back(
    directories: Directories, marks: Marks, tmp_path: Path
) -> None:
    (tmp_path / "root").mkdir()
    watch(directories, [tmp_path / "root"])
    (tmp_path / "root").rename(tmp_path / "elsewhere")
    assert soon(lambda: directories.unwatched == (f"{tmp_path}/root (does not exist)",))
    assert len(directories) == 0
    (tmp_path / "elsewhere").rename(tmp_path / "root")
    assert soon(lambda: directories.unwatched == ())
    assert len(directories) == 1


def test_a_storm_of_changes_leaves_the_right_number(directories: Directories, marks: Marks, tmp_path: Path) -> None:
    root, outside, chance = tmp_path / "root", tmp_path / "outside", random.Random(11)
    root.mkdir()
    outside.mkdir()
    watch(directories, [root])
    for number in range(400):
        inside = [each for each in root.rglob("*") if each.is_dir()] or [root]
        one, other = chance.choice(inside), chance.choice([root, *inside])
        match chance.randrange(5):
            case 0 | 1:
                (other / f"{number}/below").mkdir(parents=True)
            case 2 if one != root and not other.is_relative_to(one):
                one.rename(other / f"moved{number}")
            case 3 if one != root:
                one.rename(outside / str(number))
            case 4 if one != root:
                shutil.rmtree(one)
    there = {root, *(each for each in root.rglob("*") if each.is_dir())}
    assert soon(lambda: marks.on == there and len(directories) == len(there))


def test_manifests_that_come_change_or_go_are_told_and_other_files_are_not(tmp_path: Path) -> None:
    changed: SimpleQueue[None] = SimpleQueue()
    made = Directories(Marks(tmp_path), lambda: changed.put(None))
    root = tmp_path / "root"
    root.mkdir()
    try:
        watch(made, [root])
        manifest, elsewhere = root / "a.livepatch.toml", tmp_path / "a.livepatch.toml"
        elsewhere.touch()
        changes: tuple[Callable[[], object], ...] = (
            lambda: elsewhere.rename(manifest),
            lambda: manifest.write_text("x = 1"),
            lambda: manifest.chmod(0o600),
            lambda: manifest.rename(root / "b"),
            lambda: (root / "b").rename(manifest),
            manifest.unlink,
        )
        for change in changes:
            change()
            changed.get(timeout=WAIT)
        (root / "a.ko").write_bytes(b"")
        (root / "sign").mkdir()
        assert soon(lambda: len(made) == 2)
        while not changed.empty():  # one change is several events
            changed.get()
        (root / "a.ko").unlink()
        (root / "last").mkdir()
        assert soon(lambda: len(made) == 3)
        assert changed.empty()
    finally:
        made.stop()


class SlowMarks(Marks):
    """It takes as long as it takes until `go`."""

    def __init__(self, top: Path) -> None:
        super().__init__(top)
        self.begun, self.go = threading.Event(), threading.Event()

    def watch(self, directory: int) -> None:
        self.begun.set()
        self.go.wait(WAIT)
        super().watch(directory)


def test_whoever_asks_does_not_wait_and_what_was_asked_for_last_is_done(tmp_path: Path) -> None:
    marks = SlowMarks(tmp_path)
    made = Directories(marks)
    for name in ("large/a", "large/b", "small"):
        (tmp_path / name).mkdir(parents=True)
    order: SimpleQueue[str] = SimpleQueue()
    try:
        made.watch([tmp_path / "large"], lambda: order.put("large"))
        assert marks.begun.wait(WAIT)
        made.watch([tmp_path / "small"], lambda: order.put("small"))
        assert order.empty()
        marks.go.set()
        assert [order.get(timeout=WAIT), order.get(timeout=WAIT)] == ["large", "small"]
        assert marks.on == {tmp_path / "small"}
    finally:
        made.stop()
