# SPDX-License-Identifier: GPL-2.0-or-later
"""The status: policy, lines of defence, the installed stack, what is left over, jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.ctl.page import Span, Tone, line
from klpd.ctl.show_approvals import show_approval
from klpd.ctl.show_jobs import show_jobs
from klpd.ctl.show_stack import show_stack
from klpd.report import DefenceState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.ctl.names import Names
    from klpd.ctl.page import Line, Page
    from klpd.model import Drift
    from klpd.report import Defence, JobReport, PolicyReport, StandingApproval, Status

_DEFENCE_TONE: Final = {
    DefenceState.UP: Tone.GOOD,
    DefenceState.DEGRADED: Tone.WARN,
    DefenceState.DOWN: Tone.BAD,
}


def show_status(status: Status, page: Page, names: Names) -> Iterator[Line]:
    """All that klpd tells of itself."""
    yield line(Span(f"klpd {status.version}", Tone.STRONG), ", ", _mode(status.policy))
    yield from _policy(status.policy, page)
    yield line()
    yield line(Span("Lines of defence", Tone.STRONG))
    yield from show_defences(status.defences, page)
    yield line()
    yield from show_stack(status.stack, page, names)
    yield from _drift(status.drift, page)
    yield from _approvals(status.approvals, page)
    yield from _jobs(status.jobs, page)


def _mode(policy: PolicyReport) -> Span:
    if policy.mode == "audit":
        return Span("audit mode: it judges and records, and refuses nothing", Tone.WARN)
    return Span(f"{policy.mode} mode")


def _policy(policy: PolicyReport, page: Page) -> Iterator[Line]:
    for error in policy.errors:
        yield from page.paragraph(error, head=line(Span("policy error", Tone.BAD), ": "), indent=2)
    if policy.builtin:
        yield line(Span("no policy was taken: the built-in one holds, which lets no livepatch in", Tone.BAD))
    elif policy.errors:
        yield line(Span("the last good policy stays in force", Tone.WARN))
    rest = f"default {policy.default}, unknown states {policy.unknown_states}"
    files = ", ".join(policy.files) or "no files"
    count = policy.manifests
    manifests = f"; {count} manifest{'s' if count != 1 else ''}" if count else ""
    yield from page.paragraph(f"{rest}; from {files}{manifests}", head=line("policy: "), indent=8)


def show_defences(defences: tuple[Defence, ...], page: Page) -> Iterator[Line]:
    """A line, or a paragraph, for each line of defence."""
    if not defences:
        yield line("  none is up")
    names = max((len(each.name) for each in defences), default=0)
    for each in defences:
        state = Span(f"{each.state.value:<9} ", _DEFENCE_TONE[each.state])
        yield from page.paragraph(each.detail, head=line(f"  {each.name:<{names}}  ", state), indent=names + 14)


def _drift(drift: tuple[Drift, ...], page: Page) -> Iterator[Line]:
    for each in drift:
        why = "; ".join(str(finding) for finding in each.verdict.reasons)
        head = line(Span("drift", Tone.BAD), ": ")
        yield from page.paragraph(f"{each.livepatch} was not approved: {why}", head=head, indent=7)


def _approvals(approvals: tuple[StandingApproval, ...], page: Page) -> Iterator[Line]:
    if approvals:
        yield line()
        yield line(Span("Approved for any program", Tone.STRONG))
        for each in approvals:
            yield from show_approval(each, page)


def _jobs(jobs: tuple[JobReport, ...], page: Page) -> Iterator[Line]:
    unfinished = tuple(each for each in jobs if not each.state.final)
    if unfinished:
        yield line()
        yield line(Span("Jobs", Tone.STRONG))
        yield from show_jobs(unfinished, page, indent=2)
