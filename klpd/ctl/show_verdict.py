# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts and plans as people read them: what becomes of each state, what stands in the way, and what would help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.ctl.page import Span, Tone, line
from klpd.ctl.table import table
from klpd.model import Assessment, ChangeKind, Decision, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.ctl.names import Names
    from klpd.ctl.page import Line, Page
    from klpd.model import Admission, Finding, StateChange, Verdict
    from klpd.report import JobReport, PlanReport

_HEADER: Final = ("id", "name", "installed", "new", "change", "allowed by / refused by")
_BY: Final = {Decision.ALLOW: "allowed by", Decision.DENY: "refused by", Decision.UNKNOWN: "cannot tell:"}
_TONE: Final = {Decision.ALLOW: Tone.GOOD, Decision.DENY: Tone.BAD, Decision.UNKNOWN: Tone.WARN}
_WORD: Final = {Decision.ALLOW: "approved", Decision.DENY: "vetoed", Decision.UNKNOWN: "cannot tell"}
_OUTCOME: Final = {
    Outcome.ALLOWED: ("approved", Tone.GOOD),
    Outcome.LET_IN: ("let in all the same", Tone.WARN),
    Outcome.NOTHING: ("nothing to do", Tone.GOOD),
    Outcome.REFUSED: ("refused", Tone.BAD),
    Outcome.UNKNOWN: ("cannot tell", Tone.WARN),
}
_EXPECTED: Final = {
    Decision.ALLOW: Outcome.ALLOWED,
    Decision.DENY: Outcome.REFUSED,
    Decision.UNKNOWN: Outcome.UNKNOWN,
}
_GOING: Final = frozenset({ChangeKind.DOWNGRADE, ChangeKind.DROP})


def show_verdict(verdict: Verdict, page: Page, names: Names) -> Iterator[Line]:
    """The verdict in whole: the table of state changes, the reasons, and the decision as the last line.

    Before that, what a loader and `klpctl apply` get, where it is not for both what the verdict says.
    """
    if verdict.changes:
        yield from state_table(verdict, page, names)
        yield line()
    yield from reasons(verdict, page)
    yield from notes(verdict, page)
    if isinstance(verdict, Assessment):
        yield from ways(verdict, page)
    yield line(f"{verdict.livepatch}: ", Span(_WORD[verdict.decision], _TONE[verdict.decision]))


def ways(assessment: Assessment, page: Page) -> Iterator[Line]:
    """What a loader and `klpctl apply` get, each with what the verdict's own reasons do not tell of it."""
    told = {
        name: admission
        for name, admission in (("insmod", assessment.insmod), ("klpctl apply", assessment.apply))
        if admission is not None
    }
    if all(each.outcome is _EXPECTED[assessment.decision] and not _news(each, assessment) for each in told.values()):
        return
    for name, admission in told.items():
        word, tone = _OUTCOME[admission.outcome]
        yield line(f"{name}: ", Span(word, tone))
        for finding in _news(admission, assessment):
            yield from page.paragraph(finding.message, head=line("  "), indent=2)
            if finding.remedy is not None:
                yield from page.paragraph(finding.remedy, head=line("  remedy: "), indent=10)


def _news(admission: Admission, verdict: Verdict) -> tuple[Finding, ...]:
    return tuple(each for each in admission.reasons if each not in verdict.findings)


def state_table(verdict: Verdict, page: Page, names: Names, *, indent: int = 0) -> Iterator[Line]:
    """One row for each state that is or will be there."""
    rows = [_row(each, verdict, names) for each in verdict.changes]
    return table(_HEADER, rows, page, indent=indent)


def _row(change: StateChange, verdict: Verdict, names: Names) -> tuple[Span | str, ...]:
    return (
        f"{change.id:#x}",
        names.get(change.id, "-"),
        _version(change.before),
        _version(change.after),
        Span(change.kind.value, Tone.WARN if change.kind in _GOING else Tone.PLAIN),
        _ruled(tuple(verdict.about(change.id))),
    )


def _version(version: int | None) -> str:
    return "-" if version is None else str(version)


def _ruled(findings: tuple[Finding, ...]) -> Span:
    """Whose word decides on a state: those that deny if any does, else those that leave it open, else the allowing."""
    if not findings:
        return Span("-")
    decision = findings[0].decision
    rules = dict.fromkeys(str(each.rule) for each in findings if each.decision is decision)
    return Span(f"{_BY[decision]} {', '.join(rules)}", _TONE[decision])


def reasons(verdict: Verdict, page: Page, *, indent: int = 0) -> Iterator[Line]:
    """What made the verdict; of an approval, what let the livepatch in (its states are told by the table)."""
    told = (each for each in verdict.reasons if each.state is None or verdict.decision is not Decision.ALLOW)
    for finding in told:
        yield from _reason(finding, page, indent)


def notes(verdict: Verdict, page: Page, *, indent: int = 0) -> Iterator[Line]:
    """What comes of an action that is not refused, and what could not be checked of it beforehand."""
    if verdict.decision is not Decision.DENY:
        for finding in verdict.notes:
            yield from page.paragraph(finding.message, head=line(" " * indent, "note: "), indent=indent + 6)


def _reason(finding: Finding, page: Page, indent: int) -> Iterator[Line]:
    space = " " * indent
    word = {Decision.ALLOW: "allowed", Decision.DENY: "refused", Decision.UNKNOWN: "cannot tell"}[finding.decision]
    head = line(space, Span(word, _TONE[finding.decision]), ": ")
    yield from page.paragraph(finding.message, head=head, indent=indent + 2)
    yield from page.paragraph(str(finding.rule), head=line(space, "  rule:   "), indent=indent + 10)
    if finding.remedy is not None:
        yield from page.paragraph(finding.remedy, head=line(space, "  remedy: "), indent=indent + 10)


def show_plan(plan: PlanReport, page: Page, names: Names) -> Iterator[Line]:
    """The steps of a plan, each with its state changes and verdict."""
    yield line(Span(plan.goal, Tone.STRONG))
    if not plan.steps:
        yield line("  nothing to do: it is so already")
    for number, verdict in enumerate(plan.steps, start=1):
        word = Span(_WORD[verdict.decision], _TONE[verdict.decision])
        yield line(f"  {number}. {verdict.action} ", Span(verdict.livepatch, Tone.STRONG), ": ", word)
        if any(each.kind is not ChangeKind.KEEP for each in verdict.changes):
            yield from state_table(verdict, page, names, indent=5)
        if verdict.decision is not Decision.ALLOW:
            yield from reasons(verdict, page, indent=5)
        yield from notes(verdict, page, indent=5)
    if plan.gap:
        gap = "in between, none of the livepatches that are being exchanged is in force: their fixes are missing then"
        yield from page.paragraph(gap, head=line("  ", Span("gap", Tone.WARN), ": "), indent=7)
    if plan.outcome is Outcome.LET_IN:
        audited = "klpd refuses nothing: all this would be done all the same, and recorded"
        yield from page.paragraph(audited, head=line("  ", Span("audit mode", Tone.WARN), ": "), indent=14)


def obstacle(report: JobReport) -> Verdict | None:
    """The verdict that stopped a job before it began; for a job that was refused."""
    return next((each.verdict for each in report.steps if each.verdict.decision is not Decision.ALLOW), None)
