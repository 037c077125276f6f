# SPDX-License-Identifier: GPL-2.0-or-later
"""What goes on and what went on: `klpctl blockers`, `klpctl jobs` and `klpctl log`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from klpd.errors import ExitStatus

if TYPE_CHECKING:
    from klpd.ctl.context import Context
    from klpd.ctl.requests import Log
    from klpd.ctl.service import Service
    from klpd.report import TransitionReport

_PAUSE: Final = 1.0
"""Seconds between two looks: the kernel itself tries to end a transition once a second (klp_transition_work_fn)."""


def blockers(context: Context, *, follow: bool) -> int:
    service = context.connect()
    transition = service.transition()
    if not follow or transition is None:
        _show_transition(context, transition)
    else:
        _follow_transition(context, service, transition)
    return ExitStatus.OK


def _show_transition(context: Context, transition: TransitionReport | None) -> None:
    from klpd.ctl.show_transition import show_transition

    console = context.console
    if context.json:
        console.json({} if transition is None else transition)
    elif transition is None:
        console.out.write("no transition runs\n")
    else:
        console.show(show_transition(transition, console.page, time.time()))


def _follow_transition(context: Context, service: Service, transition: TransitionReport) -> None:
    from klpd.ctl.show_transition import show_transition

    console = context.console
    screen = console.screen()
    shown: TransitionReport | None = None
    present: TransitionReport | None = transition
    while present is not None:
        if context.json and present != shown:
            console.json(present, indent=None)
            console.out.flush()
        elif not context.json and (screen.live or present != shown):
            screen.show(show_transition(present, console.page, time.time()))
        shown = present
        time.sleep(_PAUSE)
        present = service.transition()
    if context.json:
        console.json({}, indent=None)
    else:
        console.out.write(f"the transition of {transition.livepatch} has ended\n")


def jobs(context: Context) -> int:
    jobs = context.connect().status().jobs
    if context.json:
        context.console.json(jobs)
    else:
        from klpd.ctl.show_jobs import show_jobs

        context.console.show(show_jobs(jobs, context.console.page))
    return ExitStatus.OK


def log(context: Context, request: Log) -> int:
    from klpd.ctl.journal import open_journal, read_entries, why_none
    from klpd.ctl.show_log import show_entry, to_json

    shown = False
    for entry in read_entries(open_journal(), request):
        shown = True
        if context.json:
            context.console.json(to_json(entry), indent=None)
        else:
            context.console.show(show_entry(entry, context.console.page))
        if request.follow:
            context.console.out.flush()
    if not shown and request.count != 0:
        context.console.complain(why_none())
    return ExitStatus.OK
