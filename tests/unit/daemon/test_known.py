# SPDX-License-Identifier: GPL-2.0-or-later
"""Which file a loaded livepatch came from, by what klpd and klpctl know: both find the same."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd.ctl.alone import Finder
from klpd.daemon.known import KnownLivepatches
from klpd.daemon.store import Store
from klpd.layout import known_layout
from klpd.module import read_livepatch
from klpd.module.origin import Origin
from klpd.remembered import Remembered, read_remembered
from tests.builders import declares
from tests.livepatches.build import build

if TYPE_CHECKING:
    from pathlib import Path

NAME = "klp_add"


@pytest.fixture(scope="module")
def data() -> bytes:
    return build()[NAME].read_bytes()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "klpd")


def known(store: Store, tree: Path, data: bytes, entered: str | None = None) -> Origin | None:
    """What klpd knows, and klpctl once klpd has ended."""
    build_id = read_livepatch(data, file=NAME).build_id or ""
    by_klpd = KnownLivepatches(store, lambda: (tree,), known_layout, lambda _name: entered)(NAME, build_id)
    remembered = read_remembered(tree.parent / "klpd")
    assert Finder(remembered, (tree,), known_layout, lambda _name: entered)(NAME, build_id) == by_klpd
    return by_klpd


def test_a_file_that_lies_in_the_tree_is_found(store: Store, tree: Path, data: bytes) -> None:
    (tree / f"{NAME}.ko").write_bytes(data)
    assert known(store, tree, data) == Origin.of(read_livepatch(data, file=NAME))


def test_one_that_was_seen_is_known_when_it_lies_there_no_more(store: Store, tree: Path, data: bytes) -> None:
    livepatch = replace(read_livepatch(data, file=NAME), declared=declares({7: 1}))
    store.add(livepatch, data)
    assert known(store, tree, data) == Origin.of(livepatch)


def test_of_two_that_look_the_same_neither_is_taken_for_the_other(store: Store, tree: Path, data: bytes) -> None:
    seen = replace(read_livepatch(data + b"more", file=NAME), declared=declares({7: 1}, sticky=True))
    store.add(seen, data + b"more")
    (tree / f"{NAME}.ko").write_bytes(data)
    found = known(store, tree, data)
    assert found is not None
    assert (found.digest, found.signature, found.declared) == (None, None, seen.declared)


def test_what_was_seen_to_enter_decides(store: Store, tree: Path, data: bytes) -> None:
    seen = read_livepatch(data + b"more", file=NAME)
    store.add(seen, data + b"more")
    (tree / f"{NAME}.ko").write_bytes(data)
    assert known(store, tree, data, seen.digest) == Origin.of(seen)


def test_of_what_entered_and_is_nowhere_is_known_what_was_declared(store: Store, tree: Path, data: bytes) -> None:
    gone = replace(read_livepatch(data + b"gone", file=NAME), declared=declares({7: 1}))
    store.declare(gone)
    (tree / f"{NAME}.ko").write_bytes(data)
    assert known(store, tree, data, gone.digest) == Origin(gone.digest, declared=gone.declared)


def test_a_manifest_that_cannot_be_taken_leaves_it_open_what_is_declared(store: Store, tree: Path, data: bytes) -> None:
    (tree / f"{NAME}.ko").write_bytes(data)
    (tree / f"{NAME}.livepatch.toml").write_text("oops")
    found = known(store, tree, data)
    assert found is not None
    assert (found.declared.unreadable or "").startswith(f"{tree}/{NAME}.livepatch.toml:1:5: no TOML")


@pytest.mark.parametrize("there", [True, False], ids=["there", "nowhere"])
def test_who_may_not_read_what_klpd_remembers_does_not_know_what_is_declared(
    tree: Path, data: bytes, *, there: bool
) -> None:
    if there:
        (tree / f"{NAME}.ko").write_bytes(data)
    build_id = read_livepatch(data, file=NAME).build_id or ""
    found = Finder(Remembered(unreadable="not for you"), (tree,), known_layout)(NAME, build_id)
    assert found is not None
    assert found.declared.unreadable == "not for you"
