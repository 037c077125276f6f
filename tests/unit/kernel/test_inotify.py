# SPDX-License-Identifier: GPL-2.0-or-later
"""A single file is told of when it is written, and not when it is only opened for that."""

from __future__ import annotations

import errno
import select
from typing import TYPE_CHECKING

import pytest

from klpd.errors import KernelError
from klpd.kernel.inotify import WrittenFile

if TYPE_CHECKING:
    from pathlib import Path


def is_told(file: WrittenFile) -> bool:
    return bool(select.select([file], [], [], 0)[0])


def test_a_write_is_told_until_it_is_noted(tmp_path: Path) -> None:
    path = tmp_path / "switch"
    path.write_text("1")
    file = WrittenFile(path)
    with path.open("r+b", buffering=0) as opened:
        assert not is_told(file)
        opened.write(b"0")
    assert is_told(file)
    file.read()
    assert not is_told(file)


def test_an_open_that_writes_nothing_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "switch"
    path.write_text("1")
    file = WrittenFile(path)
    path.open("r+b").close()
    assert not is_told(file)
    file.read()


def test_a_file_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="nonesuch") as caught:
        WrittenFile(tmp_path / "nonesuch")
    assert caught.value.errno == errno.ENOENT
