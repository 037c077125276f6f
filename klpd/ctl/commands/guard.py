# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard in the kernel: `klpctl guard`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.errors import DaemonUnavailableError, ExitStatus

if TYPE_CHECKING:
    from klpd.ctl.context import Context


def show_guard(context: Context) -> int:
    from klpd.ctl.show_status import show_defences
    from klpd.report import DefenceState

    guard = next(each for each in context.connect().status().defences if each.name == "guard")
    if context.json:
        context.console.json(guard)
    else:
        context.console.show(show_defences((guard,), context.console.page))
    return ExitStatus.OK if guard.state is DefenceState.UP else ExitStatus.FAILED


def open_guard(context: Context) -> int:
    try:
        service = context.connect()
        service.open_guard()
    except DaemonUnavailableError:
        context.machine.open_guard()
    context.console.complain("the guard is open: every livepatch comes in until `klpctl guard close` or the next boot")
    return ExitStatus.OK


def close_guard(context: Context) -> int:
    context.connect().close_guard()
    return ExitStatus.OK
