# SPDX-License-Identifier: GPL-2.0-or-later
"""The test livepatches are built once, and what is missing is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klpd import module
from tests.livepatches.build import build
from tests.livepatches.forge import for_other_kernel
from tests.livepatches.generate import source
from tests.livepatches.headers import BuildError
from tests.livepatches.table import ROWS, SPECIAL

if TYPE_CHECKING:
    from pathlib import Path


def test_every_row_and_every_file_becomes_a_module() -> None:
    assert list(build()) == [*(row.name for row in ROWS), *SPECIAL]


def test_what_is_up_to_date_is_not_built_again() -> None:
    before = {name: path.stat().st_mtime_ns for name, path in build().items()}

    assert {name: path.stat().st_mtime_ns for name, path in build().items()} == before


def test_copies_go_where_they_are_wanted(tmp_path: Path) -> None:
    copies = build(tmp_path / "new")

    assert {name: path.read_bytes() for name, path in copies.items()} == {
        name: path.read_bytes() for name, path in build().items()
    }
    assert {path.parent for path in copies.values()} == {tmp_path / "new"}


def test_every_livepatch_has_a_build_id_of_its_own() -> None:
    built = build()
    ids = [module.read_livepatch(built[row.name].read_bytes(), file=row.name).build_id for row in ROWS]

    assert None not in ids
    assert len(set(ids)) == len(ids)


def test_headers_that_are_missing_are_named() -> None:
    with pytest.raises(BuildError, match=r"is missing: apt-get install linux-headers-1\.2\.3-none$"):
        build(release="1.2.3-none")


def test_the_source_of_a_livepatch_has_what_its_row_says() -> None:
    row = next(row for row in ROWS if row.name == "klp_callbacks")

    text = source(row)

    assert "{ .id = 0x1005, .version = 1 }," in text
    assert ".callbacks.post_unpatch = post_unpatch," in text
    assert ".replace = true," in text


def test_a_module_for_another_kernel_has_the_same_length() -> None:
    data = build()["klp_cmdline_v1"].read_bytes()

    assert len(for_other_kernel(data)) == len(data)


def test_only_a_module_can_be_made_one_for_another_kernel() -> None:
    with pytest.raises(ValueError, match="0 vermagic tags"):
        for_other_kernel(b"text")
