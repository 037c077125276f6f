# SPDX-License-Identifier: GPL-2.0-or-later
"""How a job gets on: one line that rewrites itself on a terminal, a line for each event elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from klpd.ctl.text import cut, escape, width
from klpd.report import JobState, StepState

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from klpd.model import Verdict
    from klpd.report import JobReport

_DOING: Final = {
    "load": "loading",
    "disable": "disabling",
    "reverse": "reversing the transition of",
    "force": "forcing the transition of",
    "remove": "removing the module",
}
_QUEUED: Final = "waiting for its turn; klpctl jobs lists what comes before it"
_BEGUN: Final = " ..."
_ENDING: Final = {
    StepState.PENDING: ": put off",
    StepState.RUNNING: _BEGUN,
    StepState.DONE: ": done",
    StepState.FAILED: ": failed",
}
_BAR: Final = 20
_NAMED: Final = 4
"""How many stragglers are named; where they are more, they change too fast to be read."""


class Display(Protocol):
    """Shows the reports of one job, one after another, and what else is to be told meanwhile."""

    def report(self, report: JobReport) -> None: ...

    def note(self, text: str) -> None: ...

    def close(self) -> None:
        """Leave the output at the beginning of a line."""
        ...


class Silent:
    """Shows nothing: the report in the end says it all."""

    def report(self, report: JobReport) -> None:
        pass

    def note(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class PlainLines:
    """A line for each step that begins or ends, for each tenth of a transition, and for new stragglers."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._events = Events()
        self._shown: tuple[int, tuple[int, ...]] = (0, ())
        self._waits = False

    def report(self, report: JobReport) -> None:
        if report.state is JobState.WAITING and report.message and not self._waits:
            self._waits = True
            self.note(report.message)
        for event in self._events.of(report):
            self.note(event)
            self._shown = (0, ())
        text = step_text(report)
        tids = tuple(each.tid for each in report.stragglers)
        shown = (int(report.progress * 10), tids if len(tids) <= _NAMED else ())
        if text and shown != self._shown and report.stragglers:
            self._shown = shown
            self.note(f"{text}: {transition(report)}")

    def note(self, text: str) -> None:
        self._out.write(escape(text) + "\n")
        self._out.flush()

    def close(self) -> None:
        pass


class LiveLine:
    """The present on one line, which is written over and over; what has happened stays above it."""

    def __init__(self, out: TextIO, columns: int) -> None:
        self._out = out
        self._columns = columns
        self._events = Events()
        self._line = ""

    def report(self, report: JobReport) -> None:
        happened = [event for event in self._events.of(report) if not event.endswith(_BEGUN)]
        self._above(happened, live_text(report, self._columns - 1))

    def note(self, text: str) -> None:
        self._above([text], self._line)

    def _above(self, lines: Iterable[str], line: str) -> None:
        """Let `lines` stand, and go on with `line` below them."""
        for each in lines:
            self._write("")
            self._out.write(escape(each) + "\n")
        self._write(line)

    def close(self) -> None:
        self._write("")

    def _write(self, text: str) -> None:
        if text == self._line:
            return
        # Blanks instead of an escape sequence: they are understood by every terminal.
        blanks = " " * (width(self._line) - width(text))
        self._out.write("\r" + text + blanks + ("" if text else "\r"))
        self._out.flush()
        self._line = text


class Events:
    """What has newly happened from one report of a job to the next, as sentences."""

    def __init__(self) -> None:
        self._steps: tuple[StepState, ...] = ()
        self._state: JobState | None = None
        self._message: str | None = None

    def of(self, report: JobReport) -> list[str]:
        """The events that led from the last report to this one."""
        events = []
        steps = tuple(each.state for each in report.steps)
        before = self._steps + (StepState.PENDING,) * (len(steps) - len(self._steps))
        for step, then, now in zip(report.steps, before, steps, strict=False):
            if now is not then:
                events.append(doing(step.verdict) + _ENDING[now])
        if report.state is not self._state and report.state is JobState.REVERSING:
            events.append("reversing the transition" + _BEGUN)
        told = report.state in (JobState.RUNNING, JobState.REVERSING)
        if told and report.message is not None and report.message != self._message:
            events.append(report.message)
        self._steps, self._state, self._message = steps, report.state, report.message
        return events


def doing(verdict: Verdict) -> str:
    """A step, while it is taken."""
    return f"{_DOING.get(verdict.action, verdict.action)} {verdict.livepatch}"


def running_step(report: JobReport) -> Verdict | None:
    """The step that is being taken."""
    return next((each.verdict for each in report.steps if each.state is StepState.RUNNING), None)


def transition(report: JobReport) -> str:
    """How far the running transition is, and which tasks it waits for."""
    count = len(report.stragglers)
    named = [
        f"{each.tid} {each.command}" + (f" in {each.function}" if each.function else "")
        for each in report.stragglers[:_NAMED]
    ]
    if count > len(named):
        named.append("...")
    return f"transition {report.progress:.0%} ({count} {'task' if count == 1 else 'tasks'} left: {', '.join(named)})"


def step_text(report: JobReport) -> str:
    """The step that is being taken, with its place among several; empty where none is."""
    running = running_step(report)
    if running is None:
        return ""
    place = next(number for number, each in enumerate(report.steps, start=1) if each.state is StepState.RUNNING)
    counted = f"{place}/{len(report.steps)} " if len(report.steps) > 1 else ""
    return counted + doing(running) + (", going back" if report.state is JobState.REVERSING else "")


def live_text(report: JobReport, columns: int) -> str:
    """What is going on, in at most `columns`; empty where nothing is, and where polkit may be asking somebody."""
    if report.state.final:
        return ""
    text = step_text(report)
    if not text:
        return cut(escape(report.message or _QUEUED) if report.state is JobState.WAITING else "", columns)
    if not report.stragglers:
        return cut(escape(f"{text}{_BEGUN}"), columns)
    filled = int(report.progress * _BAR)
    bar = f"[{'#' * filled}{'.' * (_BAR - filled)}]"
    return cut(escape(f"{text} {bar} {transition(report)}"), columns)
