# SPDX-License-Identifier: GPL-2.0-or-later
"""The running transition: how far it is, what becomes of it, and which tasks it waits for, and why."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from klpd.ctl.page import Span, Tone, line
from klpd.ctl.spans import span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.ctl.page import Line, Page
    from klpd.report import Straggler, TransitionReport

# proc_pid_stat(5)
_RUN_STATES: Final = {
    "R": "running",
    "S": "sleeping",
    "D": "in uninterruptible sleep",
    "I": "idle",
    "P": "parked",
    "T": "stopped",
    "t": "stopped by a tracer",
    "Z": "a zombie",
}
_GOALS: Final = {"patched": "patching", "unpatched": "unpatching"}
_INDENT: Final = 15


def show_transition(transition: TransitionReport, page: Page, now: float, *, own: bool) -> Iterator[Line]:
    """The transition and its stragglers at the time `now`; `own`: a job of klpd's runs it."""
    yield line(Span(transition.livepatch, Tone.STRONG), f": {_progress(transition, now)}")
    yield from page.paragraph(_outlook(transition, now, own=own), head=line("  "), indent=2)
    for each in transition.stragglers:
        yield line()
        yield from _straggler(each, page, now)


def _progress(transition: TransitionReport, now: float) -> str:
    left = len(transition.stragglers)
    tasks = f"{left} of {transition.tasks} {'task' if transition.tasks == 1 else 'tasks'} left"
    running = "" if transition.since is None else f", for {span(now - transition.since)} now"
    return f"{_GOALS.get(transition.goal, transition.goal)}, {tasks}{running}"


def _outlook(transition: TransitionReport, now: float, *, own: bool) -> str:
    """What becomes of it if its stragglers stay."""
    forced = f"klpctl force {transition.livepatch} forces it" if transition.may_force else "no rule lets it be forced"
    if not own:
        return f"no job of klpd's began it, and klpd leaves it alone; klpctl revert reverses it; {forced}"
    limit = span(transition.timeout)
    if transition.on_timeout == "wait":
        return f"klpd waits for it, for more than its {limit} too; {forced}"
    act = {"reverse": "reverses it", "force": "forces it"}.get(transition.on_timeout, transition.on_timeout)
    if transition.since is None:
        return f"after {limit}, klpd {act}; {forced}"
    end = transition.since + transition.timeout
    if end <= now:
        return f"its {limit} are over, and klpd {act} if the rules let it; {forced}"
    clock = datetime.fromtimestamp(end).astimezone().strftime("%H:%M:%S")
    return f"after {limit}, in {span(end - now)} ({clock}), klpd {act}; {forced}"


def _straggler(straggler: Straggler, page: Page, now: float) -> Iterator[Line]:
    state = _RUN_STATES.get(straggler.run_state, straggler.run_state) or "state unknown"
    stuck = "" if straggler.since is None else f", stuck for {span(now - straggler.since)}"
    name = Span(straggler.command, Tone.STRONG)
    yield line("  ", name, f" (pid {straggler.pid}, tid {straggler.tid}): {state}{stuck}")
    held = straggler.function or "not to be told: no function that the transition exchanges is on its stack"
    yield from _field("held by", held, page, Tone.WARN if straggler.function else Tone.PLAIN)
    if straggler.wchan:
        yield from _field("sleeps in", straggler.wchan, page)
    for number, each in enumerate(straggler.stack):
        yield from _field("" if number else "stack", each, page)


def _field(label: str, value: str, page: Page, tone: Tone = Tone.PLAIN) -> Iterator[Line]:
    head = line(Span(f"    {label:<{_INDENT - 4}}", Tone.FAINT))
    return page.paragraph(value, head=head, indent=_INDENT, tone=tone)
