# SPDX-License-Identifier: GPL-2.0-or-later
"""The installed stack: the livepatches in force, and the modules left over from others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.ctl.page import Span, Tone, line
from klpd.ctl.show_livepatch import yes_no
from klpd.ctl.table import table
from klpd.judge.effect import never_patches, waits_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.ctl.names import Names
    from klpd.ctl.page import Line, Page
    from klpd.model import Installed, InstalledObject, Leftover, Stack, State

_HEADER: Final = ("#", "livepatch", "states", "replace", "is", "verified", "functions", "sha256")
_SHORT_HEADER: Final = ("livepatch", "is", "replace", "states")
_DIGEST_DIGITS: Final = 12


def show_stack(stack: Stack, page: Page, names: Names) -> Iterator[Line]:
    """The livepatches in force, the oldest first, and the modules left over from others."""
    yield line(Span("Livepatches", Tone.STRONG), f" in kernel {stack.kernel_release}")
    if stack.livepatches:
        rows = [_row(number, each, names) for number, each in enumerate(stack.livepatches, start=1)]
        yield from table(_HEADER, rows, page, indent=2)
    else:
        yield line("  none")
    if stack.livepatches and not stack.readable:
        why = "kernel memory could not be read, so states are known only where a file tells them"
        yield from page.paragraph(why, head=line("  "), indent=2, tone=Tone.WARN)
    for unreadable in dict.fromkeys(each.declared.unreadable for each in stack.livepatches):
        if unreadable is not None:
            told = f"more may be declared: {unreadable}"
            yield from page.paragraph(told, head=line("  "), indent=2, tone=Tone.WARN)
    for leftover in stack.leftovers:
        yield from page.paragraph(_leftover(leftover), head=line("  left over: "), indent=4)


def list_stack(stack: Stack, page: Page, names: Names) -> Iterator[Line]:
    """One line for each livepatch in force, the oldest first, however wide; nothing where there is none."""
    if stack.livepatches:
        rows = [
            (Span(each.name, Tone.STRONG), _effect(each), yes_no(each.replace, "unknown"), _states(each, names))
            for each in stack.livepatches
        ]
        yield from table(_SHORT_HEADER, rows, page._replace(width=None))


def _row(number: int, livepatch: Installed, names: Names) -> tuple[Span | str, ...]:
    return (
        str(number),
        Span(livepatch.name, Tone.STRONG),
        _states(livepatch, names),
        yes_no(livepatch.replace, "unknown"),
        _condition(livepatch),
        yes_no(livepatch.kernel_verified, "unknown"),
        ", ".join(_object(each) for each in livepatch.objects) or "-",
        "-" if livepatch.digest is None else livepatch.digest[:_DIGEST_DIGITS],
    )


def _states(livepatch: Installed, names: Names) -> Span:
    if livepatch.carried is None:
        return Span("unknown", Tone.WARN)
    known = ", ".join(_state(each, livepatch, names) for each in livepatch.carried)
    if livepatch.declared.unreadable is not None:
        return Span(f"{known}, maybe more" if known else "unknown", Tone.WARN)
    return Span(known or "none")


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


def _effect(livepatch: Installed) -> Span:
    """Its condition, with where it has no effect."""
    condition = _condition(livepatch)
    nowhere = [f"waits for {', '.join(modules)}"] if (modules := waits_for(livepatch)) else []
    if never_patches(livepatch):
        return Span(", ".join((condition.text, "never patches vmlinux", *nowhere)), Tone.WARN)
    return Span(", ".join((condition.text, *nowhere)), condition.tone)


def _object(each: InstalledObject) -> str:
    if each.misnamed:
        return f"{each.name} {len(each.functions)} (never patched: a module of that name does not come)"
    return f"{each.name} {len(each.functions)}" + (" (not loaded)" if each.patched is False else "")


def _leftover(leftover: Leftover) -> str:
    if leftover.removable:
        return f"{leftover.name}, no longer in force; klpctl remove {leftover.name} removes its module"
    return f"{leftover.name}, no longer in force; its module is in use, or kept until the next boot"
