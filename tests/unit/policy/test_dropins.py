# SPDX-License-Identifier: GPL-2.0-or-later
"""Which policy files count, and in which order."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from klpd.policy import check_file
from klpd.policy.read import Checked
from tests.unit.policy.site import ETC, ME, RUN, USR

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.policy.site import Site


def test_without_directories_there_are_no_files(site: Site) -> None:
    assert site.listed() == []


def test_files_of_all_directories_are_in_the_order_of_their_names(site: Site) -> None:
    site.put("90-c.toml", directory=USR)
    site.put("20-b.toml", directory=ETC)
    site.put("10-a.toml", directory=RUN)
    assert site.listed() == [f"{RUN}/10-a.toml", f"{ETC}/20-b.toml", f"{USR}/90-c.toml"]


@pytest.mark.parametrize(("hiding", "hidden"), [(ETC, RUN), (ETC, USR), (RUN, USR)])
def test_a_name_hides_the_same_name_in_a_later_directory(site: Site, hiding: str, hidden: str) -> None:
    site.put("50-a.toml", directory=hidden)
    site.put("50-a.toml", directory=hiding)
    assert site.listed() == [f"{hiding}/50-a.toml"]


def test_an_empty_file_masks_its_name(site: Site) -> None:
    site.put("50-a.toml", directory=USR)
    site.put("50-a.toml", "", directory=ETC)
    assert site.listed() == []


def test_a_link_to_dev_null_masks_its_name(site: Site) -> None:
    site.put("50-a.toml", directory=USR)
    site.path("50-a.toml").symlink_to("/dev/null")
    assert site.listed() == []


def test_a_link_to_a_file_is_that_file(site: Site) -> None:
    site.path("50-a.toml").symlink_to(site.put("elsewhere", directory="srv"))
    assert site.listed() == [f"{ETC}/50-a.toml"]


@pytest.mark.parametrize(
    "name", ["50-a.conf", "50-a.toml~", "50-a.toml.rpmnew", "50-a.toml.dpkg-dist", ".50-a.toml", ".toml", "README"]
)
def test_what_editors_and_package_managers_leave_is_no_policy(site: Site, name: str) -> None:
    site.put(name)
    assert site.listed() == []


def test_a_directory_that_is_none_is_named(site: Site) -> None:
    path = site.put("policy.d", directory="etc/klpd")
    assert str(site.refusal()) == f"{path}: cannot be read: Not a directory"


def _link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


def _link_to_itself(path: Path) -> None:
    path.symlink_to(path)


UNREADABLE: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link to nothing": (
        _link_to_nothing,
        "cannot be read: a link leads to {parent}/nothing, which does not exist; mount or make what it is meant to "
        "lead to, or take the link away",
    ),
    "a link to itself": (_link_to_itself, "cannot be read: Too many levels of symbolic links"),
    "a directory": (os.mkdir, "not a regular file"),
    "a FIFO": (os.mkfifo, "not a regular file"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_an_error_that_names_it(site: Site, kind: str) -> None:
    make, message = UNREADABLE[kind]
    path = site.path("50-a.toml")
    make(path)
    message = message.format(parent=path.parent)
    assert str(site.refusal()) == f"{path}: {message}"
    assert [str(each) for each in check_file(path, owner=ME).complaints] == [f"{path}: {message}"]


@pytest.mark.parametrize(
    ("name", "escaped"),
    [(b"a\n.toml", r"a\n.toml"), (b"a\x1b[m.toml", r"a\x1b[m.toml"), (b"\xff.toml", r"\udcff.toml")],
)
def test_a_name_that_cannot_be_printed_is_refused_and_escaped(site: Site, name: bytes, escaped: str) -> None:
    site.put(os.fsdecode(name))
    assert str(site.refusal()).endswith(f"/{escaped}: the name of such a file has to be printable UTF-8")


def test_a_file_that_masks_checks(site: Site) -> None:
    assert check_file(site.put("empty", ""), owner=ME) == Checked()
