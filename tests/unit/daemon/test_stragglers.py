# SPDX-License-Identifier: GPL-2.0-or-later
"""Which function keeps a task from switching."""

from __future__ import annotations

import dataclasses

import pytest

from klpd.daemon.stragglers import holding_frame, straggler
from klpd.kernel.memory import TaskInTransition
from klpd.kernel.tasks import Frame, TaskState
from klpd.model import VMLINUX, Function, InstalledObject
from tests.builders import installed, stack

MOVING = dataclasses.replace(
    installed("klp_new", transition=True),
    objects=(
        InstalledObject(VMLINUX, (Function("vfs_read"),)),
        InstalledObject("ext4", (Function("ext4_sync"),)),
    ),
)
GOING = dataclasses.replace(MOVING, enabled=False)
WITH_OLD = stack(installed("klp_old"), MOVING)
ENTRY = Frame("entry_SYSCALL_64")


@pytest.mark.parametrize(
    ("frame", "holds"),
    [
        (Frame("vfs_read"), True),
        (Frame("ext4_sync", "ext4"), True),
        (Frame("vfs_read", "ext4"), False),
        (Frame("ext4_sync"), False),
        (Frame("klp_anything", "klp_old"), True),
        (Frame("klp_anything", "klp_new"), False),
    ],
    ids=str,
)
def test_on_the_way_in_it_is_one_that_is_replaced_or_another_livepatchs(frame: Frame, *, holds: bool) -> None:
    assert holding_frame((Frame("schedule"), frame, ENTRY), MOVING, WITH_OLD) == (frame if holds else None)


def test_on_the_way_out_it_is_the_livepatchs_own() -> None:
    own = Frame("klp_read", "klp_new")
    assert holding_frame((Frame("vfs_read"), own, ENTRY), GOING, stack(GOING)) == own
    assert holding_frame((Frame("vfs_read"), ENTRY), GOING, stack(GOING)) is None


def test_of_several_it_is_the_innermost() -> None:
    frames = (Frame("ext4_sync", "ext4"), Frame("vfs_read"))
    assert holding_frame(frames, MOVING, WITH_OLD) == frames[0]


def test_a_straggler_is_told_with_its_stack_and_what_holds_it() -> None:
    task = TaskInTransition(pid=8, tgid=7, command="cat", patch_state=0)
    found = straggler(task, TaskState("S", "vfs_read", (Frame("vfs_read"), ENTRY)), WITH_OLD, since=12.5)
    assert (found.pid, found.tid, found.command, found.since) == (7, 8, "cat", 12.5)
    assert (found.run_state, found.wchan, found.stack) == ("S", "vfs_read", ("vfs_read", "entry_SYSCALL_64"))
    assert found.function == "vfs_read"
