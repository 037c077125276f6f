# SPDX-License-Identifier: GPL-2.0-or-later
"""What is installed: `klpctl status` and `klpctl list`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.errors import DaemonUnavailableError, ExitStatus, KlpdError

if TYPE_CHECKING:
    from klpd.ctl.context import Context


def status(context: Context) -> int:
    from klpd.ctl.names import names_told
    from klpd.ctl.show_status import show_status

    try:
        status = context.connect().status()
    except DaemonUnavailableError:
        _stack_alone(context)
        raise
    if context.json:
        context.console.json(status)
    else:
        context.console.show(show_status(status, context.console.page, names_told(status.policy)))
    return ExitStatus.OK


def _stack_alone(context: Context) -> None:
    """What the kernel shows, where klpd tells nothing."""
    from klpd.ctl.show_stack import show_stack

    try:
        stack = context.machine.stack()
    except KlpdError as error:
        context.console.complain(str(error))
        return
    if context.json:
        context.console.json({"stack": stack})
    else:
        names = context.machine.names() if stack.livepatches else {}
        context.console.show(show_stack(stack, context.console.page, names))


def list_installed(context: Context, *, names: bool) -> int:
    if names:
        return _list_names(context)
    from klpd.ctl.names import names_told
    from klpd.ctl.show_stack import list_stack

    try:
        status = context.connect().status()
        stack, names_known = status.stack, names_told(status.policy)
    except DaemonUnavailableError as error:
        stack = context.machine.stack()
        names_known = context.machine.names()
        context.console.complain(f"as the kernel shows them: {error}")
    if context.json:
        context.console.json(stack.livepatches)
    else:
        context.console.show(list_stack(stack, context.console.page, names_known))
    return ExitStatus.OK


def _list_names(context: Context) -> int:
    found = context.machine.livepatch_names()
    if context.json:
        context.console.json(found)
    else:
        for each in found:
            context.console.out.write(f"{each}\n")
    return ExitStatus.OK
