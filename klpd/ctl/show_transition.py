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
    from klpd.report import Prospect, Straggler, TransitionReport

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


def show_transition(transition: TransitionReport, page: Page, now: float) -> Iterator[Line]:
    """The transition and its stragglers at the time `now`."""
    yield line(Span(transition.livepatch, Tone.STRONG), f": {_progress(transition, now)}")
    yield from page.paragraph(_outlook(transition, now), head=line("  "), indent=2)
    for each in transition.stragglers:
        yield line()
        yield from _straggler(each, page, now)


def _progress(transition: TransitionReport, now: float) -> str:
    left = len(transition.stragglers)
    tasks = f"{left} of {transition.tasks} {'task' if transition.tasks == 1 else 'tasks'} left"
    running = "" if transition.since is None else f", for {span(now - transition.since)} now"
    return f"{_GOALS.get(transition.goal, transition.goal)}, {tasks}{running}"


def _outlook(transition: TransitionReport, now: float) -> str:
    """What becomes of it if its stragglers stay, and what else may be done about it."""
    name, prospect = transition.livepatch, transition.prospect
    forced = f"klpctl force {name} forces it" if transition.may_force else "no rule lets it be forced"
    if prospect is None:
        return f"no job of klpd's waits for it, and klpd leaves it alone; klpctl revert reverses it; {forced}"
    revert = "; klpctl revert turns it round again" if prospect.turned else ""
    return f"{_what_klpd_does(transition, prospect, now)}{revert}; {forced}"


def _what_klpd_does(transition: TransitionReport, prospect: Prospect, now: float) -> str:
    limit = span(transition.timeout)
    job = "klpd" if transition.job is None else f"klpd (job {transition.job})"
    act = {"reverse": "reverses it", "force": "forces it"}.get(prospect.then, prospect.then)
    if prospect.due is None:
        turned = ": it goes back already" if prospect.turned and transition.on_timeout == "reverse" else ""
        return f"{job} waits for it, for more than its {limit} too{turned}"
    if prospect.due <= now:
        if prospect.refused is None:
            return f"its {limit} are over, and {job} {act}"
        again = "it tries again once the policy or the stack has changed"
        return f"its {limit} are over, and {job} {act} as soon as the rules let it; {again}: {prospect.refused}"
    clock = datetime.fromtimestamp(prospect.due).astimezone().strftime("%H:%M:%S")
    return f"after {limit}, in {span(prospect.due - now)} ({clock}), {job} {act}"


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
