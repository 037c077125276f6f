# SPDX-License-Identifier: GPL-2.0-or-later
"""What /proc tells of a straggler, read as it is written there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from klpd.kernel.tasks import Frame, TaskState, parse_stack, read_task

if TYPE_CHECKING:
    from pathlib import Path

STACK = """\
[<0>] klp_test_wait+0x5a/0xb0 [klp_test_target]
[<0>] hold_thread+0x14/0x20 [klp_test_target]
[<0>] kthread+0xd7/0x100
[<0>] ret_from_fork+0x22/0x30
"""


def test_a_sleeping_task_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "proc/7"
    folder.mkdir(parents=True)
    (folder / "stat").write_text("7 (a ) b (c) S 2 0 0")
    (folder / "wchan").write_text("klp_test_wait")
    (folder / "stack").write_text(STACK)
    assert read_task(7, tmp_path) == TaskState(
        "S",
        "klp_test_wait",
        (
            Frame("klp_test_wait", "klp_test_target"),
            Frame("hold_thread", "klp_test_target"),
            Frame("kthread"),
            Frame("ret_from_fork"),
        ),
    )


def test_a_task_that_sleeps_in_no_function_has_none(tmp_path: Path) -> None:
    folder = tmp_path / "proc/7"
    folder.mkdir(parents=True)
    (folder / "stat").write_text("7 (x) R 2 0 0")
    (folder / "wchan").write_text("0")
    assert read_task(7, tmp_path) == TaskState("R")


def test_a_task_that_has_ended_has_no_state(tmp_path: Path) -> None:
    assert read_task(7, tmp_path) == TaskState()


@pytest.mark.parametrize(
    ("line", "frame"),
    [
        ("[<0>] do_nanosleep+0x67/0x190", Frame("do_nanosleep")),
        ("[<ffffffff81000000>] f.constprop.0+0x1/0x2 [m]", Frame("f.constprop.0", "m")),
        ("[<0>] f+0x1/0x2 [m 0123abcd]", Frame("f", "m 0123abcd")),
    ],
)
def test_a_frame_is_a_function_and_its_module(line: str, frame: Frame) -> None:
    assert parse_stack(line) == [frame]


@pytest.mark.parametrize("text", ["", "\n", "[<0>] 0xffffffffffffffff", "nonsense"])
def test_what_is_no_frame_is_passed_over(text: str) -> None:
    assert parse_stack(text) == []
