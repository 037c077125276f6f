# SPDX-License-Identifier: GPL-2.0-or-later
"""The status: policy, lines of defence, the installed stack, what is left over, jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.ctl.page import Span, Tone, line
from klpd.ctl.show_livepatch import yes_no
from klpd.ctl.table import table
from klpd.report import DefenceState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.ctl.names import Names
    from klpd.ctl.page import Line, Page
    from klpd.judge.drift import Drift
    from klpd.model import Installed, InstalledObject, Leftover, Stack, State
    from klpd.report import Defence, JobReport, PolicyReport, Status

_STACK_HEADER: Final = ("#", "livepatch", "states", "replace", "is", "functions", "sha256")
_DEFENCE_TONE: Final = {
    DefenceState.UP: Tone.GOOD,
    DefenceState.DEGRADED: Tone.WARN,
    DefenceState.DOWN: Tone.BAD,
}
_DIGEST_DIGITS: Final = 12


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
    yield from page.paragraph(f"{rest}; from {files}", head=line("policy: "), indent=8)


def show_defences(defences: tuple[Defence, ...], page: Page) -> Iterator[Line]:
    """A line, or a paragraph, for each line of defence."""
    if not defences:
        yield line("  none is up")
    names = max((len(each.name) for each in defences), default=0)
    for each in defences:
        state = Span(f"{each.state.value:<9} ", _DEFENCE_TONE[each.state])
        yield from page.paragraph(each.detail, head=line(f"  {each.name:<{names}}  ", state), indent=names + 14)


def show_stack(stack: Stack, page: Page, names: Names) -> Iterator[Line]:
    """The livepatches in force, the oldest first, and the modules left over from others."""
    yield line(Span("Livepatches", Tone.STRONG), f" in kernel {stack.kernel_release}")
    if stack.livepatches:
        rows = [_row(number, each, names) for number, each in enumerate(stack.livepatches, start=1)]
        yield from table(_STACK_HEADER, rows, page, indent=2)
    else:
        yield line("  none")
    if stack.livepatches and not stack.readable:
        why = "kernel memory could not be read, so states are known only where a file tells them"
        yield from page.paragraph(why, head=line("  "), indent=2, tone=Tone.WARN)
    for leftover in stack.leftovers:
        yield from page.paragraph(_leftover(leftover), head=line("  left over: "), indent=4)


def _drift(drift: tuple[Drift, ...], page: Page) -> Iterator[Line]:
    for each in drift:
        why = "; ".join(str(finding) for finding in each.verdict.reasons)
        head = line(Span("drift", Tone.BAD), ": ")
        yield from page.paragraph(f"{each.livepatch} was not approved: {why}", head=head, indent=7)


def _row(number: int, livepatch: Installed, names: Names) -> tuple[Span | str, ...]:
    return (
        str(number),
        Span(livepatch.name, Tone.STRONG),
        _states(livepatch, names),
        yes_no(livepatch.replace, "unknown"),
        _condition(livepatch),
        ", ".join(_object(each) for each in livepatch.objects) or "-",
        "-" if livepatch.digest is None else livepatch.digest[:_DIGEST_DIGITS],
    )


def _states(livepatch: Installed, names: Names) -> Span:
    if livepatch.carried is None:
        return Span("unknown", Tone.WARN)
    return Span(", ".join(_state(each, livepatch, names) for each in livepatch.carried) or "none")


def _state(state: State, livepatch: Installed, names: Names) -> str:
    """A state, with what the site calls it and, if it is but declared, where."""
    real = livepatch.states is not None and any(each.id == state.id for each in livepatch.states)
    declared = [] if real else [f"declared: {each.source}" for each in livepatch.declared.of(state.id)[:1]]
    told = [*([names[state.id]] if state.id in names else []), *declared]
    return f"{state.id:#x}:{state.version}" + (f" ({', '.join(told)})" if told else "")


def _condition(livepatch: Installed) -> Span:
    if livepatch.transition:
        return Span("patching" if livepatch.enabled else "unpatching", Tone.WARN)
    if not livepatch.enabled:
        return Span("disabled", Tone.WARN)
    if livepatch.forced:
        return Span("enabled, forced", Tone.WARN)
    return Span("enabled", Tone.GOOD)


def _object(each: InstalledObject) -> str:
    return f"{each.name} {len(each.functions)}" + (" (not loaded)" if each.patched is False else "")


def _leftover(leftover: Leftover) -> str:
    if leftover.removable:
        return f"{leftover.name}, no longer in force; klpctl disable {leftover.name} removes its module"
    return f"{leftover.name}, no longer in force; its module is in use, or kept until the next boot"


def _jobs(jobs: tuple[JobReport, ...], page: Page) -> Iterator[Line]:
    running = [each for each in jobs if not each.state.final]
    if running:
        yield line()
        yield line(Span("Jobs", Tone.STRONG))
        rows = [(str(each.id), each.goal, each.state.value, f"{each.progress:.0%}") for each in running]
        yield from table(("id", "goal", "is", "progress"), rows, page, indent=2)
