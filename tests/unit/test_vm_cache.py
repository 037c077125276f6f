# SPDX-License-Identifier: GPL-2.0-or-later
"""The test host's cache."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tests.vm.cache import Cache, default_folder, digest


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def put(cache: Cache, key: str, keep: int = 9) -> Path:
    def build(folder: Path) -> None:
        (folder / "file").write_text(key)

    return cache.get("kind", key, build, keep=keep)


def test_an_entry_is_built_once(cache: Cache) -> None:
    first = put(cache, "a")
    again = cache.get("kind", "a", lambda _: pytest.fail("built again"), keep=9)
    assert first == again
    assert (first / "file").read_text() == "a"


def test_a_build_that_fails_leaves_nothing(cache: Cache) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        cache.get("kind", "a", fail, keep=9)
    assert cache.find("kind", "a") is None
    assert list((cache.folder / "scratch").iterdir()) == []


def test_the_entries_used_last_are_kept(cache: Cache) -> None:
    for age, key in enumerate("abc"):
        os.utime(put(cache, key), ns=(age, age))
    assert cache.find("kind", "a") is not None  # used now
    put(cache, "d", keep=2)
    assert [key for key in "abcd" if cache.find("kind", key)] == ["a", "d"]


def test_an_entry_in_use_is_not_dropped(cache: Cache) -> None:
    old = put(cache, "old")
    with cache.using(old):
        put(cache, "new", keep=1)
        assert old.exists()
    put(cache, "newer", keep=1)
    assert not old.exists()


def test_two_that_want_the_same_entry_build_it_once(cache: Cache) -> None:
    builds = []
    begun = threading.Event()
    go_on = threading.Event()

    def build(_: Path) -> None:
        builds.append(1)
        begun.set()
        assert go_on.wait(30)

    threads = [threading.Thread(target=cache.get, args=("kind", "a", build), kwargs={"keep": 9}) for _ in range(2)]
    threads[0].start()
    assert begun.wait(30)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert builds == [1]


def test_the_scratch_of_a_killed_process_is_swept_and_a_live_one_is_not(cache: Cache) -> None:
    left = cache.folder / "scratch" / "left"
    left.mkdir()
    with cache.scratch() as ours, cache.scratch():
        assert ours.exists()
        assert not left.exists()
    assert not ours.exists()


def test_a_note_holds_as_long_as_its_stamp(cache: Cache) -> None:
    assert cache.note("version", "1", lambda: "first") == "first"
    assert cache.note("version", "1", lambda: pytest.fail("asked again")) == "first"
    assert cache.note("version", "2", lambda: "second") == "second"


def test_a_key_depends_on_every_part() -> None:
    assert digest("a", ["b"]) == digest("a", ("b",))
    assert len({digest("a", "b"), digest("ab"), digest("a", ["b"]), digest("b", "a")}) == 4


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"KLPD_CACHE": "/own", "XDG_CACHE_HOME": "/xdg", "HOME": "/home/me"}, "/own"),
        ({"XDG_CACHE_HOME": "/xdg", "HOME": "/home/me"}, "/xdg/klpd"),
        ({"HOME": "/home/me"}, "/home/me/.cache/klpd"),
    ],
)
def test_the_folder_is_where_the_environment_says(
    environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KLPD_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert default_folder() == Path(folder)
