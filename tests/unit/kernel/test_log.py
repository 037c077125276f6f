# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel's log says of livepatches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klpd.kernel.log import KernelLog

if TYPE_CHECKING:
    from pathlib import Path

WARNING = b"4,812,5140900,-;livepatch: pre-patch callback failed for object 'vmlinux'\n"


def complaints(tmp_path: Path, record: bytes) -> tuple[str, ...]:
    (file := tmp_path / "kmsg").touch()
    with KernelLog(str(file)) as log:
        file.write_bytes(record)
        return log.complaints()


def test_a_warning_of_the_livepatch_core_is_told_without_its_prefix(tmp_path: Path) -> None:
    assert complaints(tmp_path, WARNING) == ("pre-patch callback failed for object 'vmlinux'",)


@pytest.mark.parametrize(
    "record",
    [
        b"5,811,5140800,-;livepatch: enabling patch 'klp_fails'\n",
        b"4,813,5141000,-;klp_fails: loading out-of-tree module taints kernel.\n",
        b"12,814,5141100,-;livepatch: cough\n",
        b"no record at all",
    ],
    ids=["a notice", "of something else", "of a program", "odd"],
)
def test_nothing_else_is(tmp_path: Path, record: bytes) -> None:
    assert complaints(tmp_path, record) == ()


def test_what_follows_a_text_is_left_out(tmp_path: Path) -> None:
    assert complaints(tmp_path, WARNING + b" SUBSYSTEM=module\n") == ("pre-patch callback failed for object 'vmlinux'",)


def test_a_log_that_may_not_be_read_tells_nothing(tmp_path: Path) -> None:
    with KernelLog(str(tmp_path / "missing")) as log:
        assert log.complaints() == ()
