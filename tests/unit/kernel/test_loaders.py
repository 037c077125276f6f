# SPDX-License-Identifier: GPL-2.0-or-later
"""Who may load modules, of those who open files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from klpd.kernel.loaders import user_who_waits

if TYPE_CHECKING:
    from pathlib import Path

MAY, MAY_NOT = "000001ffffffffff", "00000000a80425fb"  # all capabilities, and those of a container


def process(proc: Path, user: int, capabilities: str) -> None:
    (proc / "7").mkdir()
    (proc / "7/status").write_text(f"Name:\tx\nUid:\t0\t0\t0\t0\nCapPrm:\t{capabilities}\n")
    if os.getuid() != 0:
        pytest.skip("only root can make a process of another user")
    os.chown(proc / "7", user, user)


@pytest.mark.parametrize(
    ("user", "capabilities", "found"), [(0, MAY, None), (0, MAY_NOT, 0), (1000, MAY, 1000), (1000, MAY_NOT, 1000)]
)
def test_root_with_the_capability_goes_first(tmp_path: Path, user: int, capabilities: str, found: int | None) -> None:
    process(tmp_path, user, capabilities)
    assert user_who_waits(7, tmp_path) == found


def test_a_process_that_is_gone_is_nobodys(tmp_path: Path) -> None:
    assert user_who_waits(7, tmp_path) == 65534


def test_this_process_is_the_users_who_runs_it() -> None:
    assert user_who_waits(os.getpid()) in (None, os.geteuid())
