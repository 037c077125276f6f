# SPDX-License-Identifier: GPL-2.0-or-later
"""The file of a loaded livepatch is found by name, and told from others by build id."""

from __future__ import annotations

import lzma
from typing import TYPE_CHECKING

import pytest

from klpd.layout import known_layout
from klpd.module import read_livepatch
from klpd.module.search import find_livepatches
from tests.livepatches.build import build

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def data() -> bytes:
    return build()["klp_add"].read_bytes()


@pytest.mark.parametrize("file", ["klp_add.ko", "klp-add.ko", "deep/down/klp_add.ko"])
def test_it_is_found_wherever_it_lies_and_however_it_is_spelt(tmp_path: Path, data: bytes, file: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    livepatch = read_livepatch(data, file=file)
    assert list(find_livepatches("klp_add", livepatch.build_id or "", (tmp_path,), known_layout)) == [
        (livepatch, data, path)
    ]


def test_a_compressed_one_is_unpacked(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "klp_add.ko.xz").write_bytes(lzma.compress(data))
    (found,) = find_livepatches("klp_add", read_livepatch(data, file="").build_id or "", (tmp_path,), known_layout)
    assert found[1] == data


def test_one_of_another_build_is_not_it(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "klp_add.ko").write_bytes(data)
    assert not list(find_livepatches("klp_add", "00", (tmp_path,), known_layout))


def test_files_that_cannot_be_read_are_passed_over(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/klp_add.ko").write_bytes(b"no module")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/klp_add.ko").write_bytes(data)
    (found,) = find_livepatches("klp_add", read_livepatch(data, file="").build_id or "", (tmp_path,), known_layout)
    assert found[2] == tmp_path / "b/klp_add.ko"


def test_all_files_that_may_be_the_one_are_found(tmp_path: Path, data: bytes) -> None:
    for folder, tail in (("a", b""), ("b", b"more")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "klp_add.ko").write_bytes(data + tail)
    build_id = read_livepatch(data, file="").build_id or ""
    found = find_livepatches("klp_add", build_id, (tmp_path / "a", tmp_path / "b"), known_layout)
    assert len({livepatch.digest for livepatch, _data, _path in found}) == 2


def test_without_a_place_to_look_nothing_is_found(tmp_path: Path) -> None:
    assert not list(find_livepatches("klp_add", "00", (tmp_path / "none",), known_layout))
