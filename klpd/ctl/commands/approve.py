# SPDX-License-Identifier: GPL-2.0-or-later
"""Letting any program load a livepatch for a time: `klpctl approve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.errors import ExitStatus

if TYPE_CHECKING:
    from klpd.ctl.context import Context


def approve(context: Context, file: str, seconds: int) -> int:
    from klpd.ctl.page import line
    from klpd.ctl.show_approvals import show_approval

    approval = context.connect().approve(file, seconds)
    if context.json:
        context.console.json(approval)
    elif seconds == 0:
        context.console.show([line(f"{approval.livepatch}: not approved any longer")])
    else:
        context.console.show(show_approval(approval, context.console.page))
    return ExitStatus.OK
