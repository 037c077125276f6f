# SPDX-License-Identifier: GPL-2.0-or-later
"""Events that were lost are told once, whoever restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.daemon.lost import LostEvents

if TYPE_CHECKING:
    from pathlib import Path


def test_each_is_told_once(tmp_path: Path) -> None:
    lost = LostEvents(tmp_path / "lost")
    assert [lost.untold(each) for each in (0, 3, 3, 7)] == [0, 3, 0, 4]


def test_another_klpd_tells_only_what_came_since(tmp_path: Path) -> None:
    LostEvents(tmp_path / "lost").untold(5)
    assert LostEvents(tmp_path / "lost").untold(6) == 1


def test_a_new_guard_counts_anew(tmp_path: Path) -> None:
    LostEvents(tmp_path / "lost").untold(5)
    lost = LostEvents(tmp_path / "lost")
    assert (lost.untold(2), lost.untold(2)) == (2, 0)


def test_a_file_that_says_nothing_is_none(tmp_path: Path) -> None:
    (tmp_path / "lost").write_text("?")
    assert LostEvents(tmp_path / "lost").untold(1) == 1
