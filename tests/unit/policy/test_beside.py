# SPDX-License-Identifier: GPL-2.0-or-later
"""The manifest beside a module's file: whose it has to be, and for which livepatch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from klpd.errors import PolicyError
from klpd.policy.beside import manifest_path, open_beside, read_handed, with_beside
from tests.builders import declares, livepatch

if TYPE_CHECKING:
    from pathlib import Path

    from klpd.model import Declaration

NEW = livepatch("new", None)


def nothing(_digest: str) -> Declaration | None:
    return None


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a file root's")


def put(folder: Path, text: str | None = None) -> Path:
    """A manifest for `new.ko` in a folder."""
    path = folder / "new.livepatch.toml"
    path.write_text(text or f'[livepatch]\nsha256 = "{NEW.digest}"\n[[state]]\nid = 1\nversion = 2\n')
    return path


@pytest.mark.parametrize(
    ("file", "manifest"),
    [
        ("/lib/a.ko", "/lib/a.livepatch.toml"),
        ("/lib/a-b.ko.xz", "/lib/a-b.livepatch.toml"),
        ("a.ko.zst", "a.livepatch.toml"),
        ("a.ko.gz", "a.livepatch.toml"),
        ("a.ko.bak", "a.ko.bak.livepatch.toml"),
        ("a.ko.d/b", "a.ko.d/b.livepatch.toml"),
    ],
)
def test_it_has_the_name_of_the_module(file: str, manifest: str) -> None:
    assert manifest_path(file) == manifest


@as_root
def test_what_it_declares_is_the_livepatchs(tmp_path: Path) -> None:
    path = put(tmp_path)
    declared = with_beside(NEW, str(tmp_path / "new.ko.xz"), nothing).declared
    assert declared.files == (str(path),)
    assert [(each.id, each.version) for each in declared.states or ()] == [(1, 2)]


def test_where_there_is_none_nothing_is_declared(tmp_path: Path) -> None:
    assert with_beside(NEW, str(tmp_path / "new.ko"), nothing) == NEW
    assert open_beside(str(tmp_path / "new.ko")) is None


@as_root
@pytest.mark.parametrize(
    ("mode", "owner", "why"),
    [
        (0o664, 0, "others than root may write it"),
        (0o646, 0, "others than root may write it"),
        (0o644, 1000, "it belongs to user 1000"),
    ],
)
def test_one_that_others_may_write_is_not_taken_but_shown_to_whom_it_concerns(
    tmp_path: Path, mode: int, owner: int, why: str
) -> None:
    path = put(tmp_path)
    path.chmod(mode)
    os.chown(path, owner, 0)
    with pytest.raises(PolicyError, match=f"^{path}: {why}, and only root may declare"):
        with_beside(NEW, str(tmp_path / "new.ko"), nothing)
    assert with_beside(NEW, str(tmp_path / "new.ko"), nothing, mine=True).declared.states is not None


@as_root
def test_what_is_remembered_holds_where_none_lies_beside_it(tmp_path: Path) -> None:
    def remembered(digest: str) -> Declaration | None:
        return declares({1: 9}) if digest == NEW.digest else None

    file = str(tmp_path / "new.ko")
    assert with_beside(NEW, file, remembered).declared == declares({1: 9})
    put(tmp_path)
    assert [each.version for each in with_beside(NEW, file, remembered).declared.states or ()] == [2]


@as_root
def test_of_a_link_it_is_the_one_beside_the_file_that_counts(tmp_path: Path) -> None:
    for folder in ("links", "files"):
        (tmp_path / folder).mkdir()
    path = put(tmp_path / "files")
    (tmp_path / "links/new.ko").symlink_to("../files/new.ko")
    put(tmp_path / "links", "oops")
    assert with_beside(NEW, str(tmp_path / "links/new.ko"), nothing).declared.files == (str(path),)


@as_root
def test_one_for_other_bytes_is_not_taken(tmp_path: Path) -> None:
    put(tmp_path)
    other = livepatch("new", (), digest="cd" * 32)
    with pytest.raises(PolicyError, match="it is not for new, whose sha256 is cdcd"):
        with_beside(other, str(tmp_path / "new.ko"), nothing)


@as_root
def test_what_is_wrong_with_it_is_told_with_its_place(tmp_path: Path) -> None:
    path = put(tmp_path, "x = 1\n")
    with pytest.raises(PolicyError, match=rf"^{path}:1:1: "):
        with_beside(NEW, str(tmp_path / "new.ko"), nothing)


def test_a_fifo_in_its_place_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "new.livepatch.toml")
    with pytest.raises(PolicyError, match="not a regular file"):
        with_beside(NEW, str(tmp_path / "new.ko"), nothing, mine=True)


def test_a_descriptor_is_read_from_its_beginning(tmp_path: Path) -> None:
    fd = os.open(put(tmp_path), os.O_RDONLY)
    try:
        os.lseek(fd, 20, os.SEEK_SET)
        assert read_handed(fd, "new.livepatch.toml").manifest.sha256 == NEW.digest
    finally:
        os.close(fd)
