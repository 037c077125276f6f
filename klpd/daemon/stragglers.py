# SPDX-License-Identifier: GPL-2.0-or-later
"""Stragglers: the tasks that a transition waits for, and what keeps them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.model import VMLINUX
from klpd.report import Straggler

if TYPE_CHECKING:
    from collections.abc import Iterable

    from klpd.kernel.memory import TaskInTransition
    from klpd.kernel.tasks import Frame, TaskState
    from klpd.model import Installed, Stack


def straggler(task: TaskInTransition, state: TaskState, stack: Stack, *, since: float | None) -> Straggler:
    """A task of the running transition of `stack` that has not switched, with what is known of it."""
    moving = stack.transition
    held_by = None if moving is None else holding_frame(state.stack, moving, stack)
    return Straggler(
        pid=task.tgid,
        tid=task.pid,
        command=task.command,
        since=since,
        run_state=state.run_state,
        wchan=state.wchan,
        stack=tuple(str(each) for each in state.stack),
        function=None if held_by is None else str(held_by),
    )


def holding_frame(frames: Iterable[Frame], moving: Installed, stack: Stack) -> Frame | None:
    """The function that keeps a task from switching: the innermost one that the transition exchanges.

    On the way in these are the functions that the livepatch replaces, or what another livepatch put in their place; on
    the way out they are its own (klp_check_stack_func in kernel/livepatch/transition.c).
    """
    if not moving.enabled:
        return next((each for each in frames if each.module == moving.name), None)
    replaced = {(each.name, function.name) for each in moving.objects for function in each.functions}
    others = {each.name for each in stack.livepatches} - {moving.name}
    return next(
        (each for each in frames if (each.module or VMLINUX, each.function) in replaced or each.module in others), None
    )
