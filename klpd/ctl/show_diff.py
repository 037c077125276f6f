# SPDX-License-Identifier: GPL-2.0-or-later
"""What an update changes, as people read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.ctl.page import Span, Tone, line
from klpd.ctl.show_livepatch import UNKNOWN, function_name, named, yes_no
from klpd.model import ChangeKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.ctl.names import Names
    from klpd.ctl.page import Line, Page
    from klpd.judge.compare import Difference, ObjectChange
    from klpd.model import StateChange

_INDENT: Final = 18
_WORDS: Final = {
    ChangeKind.INTRODUCE: "new",
    ChangeKind.KEEP: "stays",
    ChangeKind.UPGRADE: "up",
    ChangeKind.DOWNGRADE: "down",
    ChangeKind.DROP: "dropped",
}
_GOING: Final = frozenset({ChangeKind.DOWNGRADE, ChangeKind.DROP})

Value = tuple[str, Tone]


def show_difference(difference: Difference, page: Page, names: Names) -> Iterator[Line]:
    """All that changes, one subject a line, and whether the way there can be taken back."""
    for label, values in _fields(difference, names):
        head = line(Span(f"{label + ':':<{_INDENT}}", Tone.FAINT))
        for text, tone in values:
            yield from page.paragraph(text, head=head, indent=_INDENT, tone=tone)
            head = line(" " * _INDENT)


def _fields(difference: Difference, names: Names) -> Iterator[tuple[str, tuple[Value, ...]]]:
    old, new = difference.old, difference.new
    yield "old", (_plain(named(old)),)
    yield "new", (_plain(named(new)),)
    yield "format", (_change(old.format, new.format),)
    yield "atomic replace", (_change(yes_no(old.replace, UNKNOWN), yes_no(new.replace, UNKNOWN)),)
    yield "states", _states(difference.states, names)
    if difference.objects is None:
        yield "objects", (_plain(UNKNOWN),)
    elif not difference.objects:
        yield "objects", (_plain("the same functions and callbacks"),)
    else:
        yield from ((each.name, tuple(_object(each))) for each in difference.objects)
    yield "loading", _loading(difference)
    yield "reversal", _reversal(difference)


def _plain(text: str) -> Value:
    return text, Tone.PLAIN


def _change(old: str, new: str) -> Value:
    return _plain(old) if old == new else (f"{old} -> {new}", Tone.WARN)


def _states(states: tuple[StateChange, ...] | None, names: Names) -> tuple[Value, ...]:
    if states is None:
        return (_plain(UNKNOWN),)
    return tuple(_state(each, names) for each in states) or (_plain("none"),)


def _state(change: StateChange, names: Names) -> Value:
    name = names.get(change.id)
    versions = [str(each) for each in (change.before, change.after) if each is not None]
    if change.kind is ChangeKind.KEEP:
        versions.pop()
    text = f"{change.id:#x} version {' -> '.join(versions)}: {_WORDS[change.kind]}"
    return text + ("" if name is None else f" ({name})"), Tone.WARN if change.kind in _GOING else Tone.PLAIN


def _object(change: ObjectChange) -> Iterator[Value]:
    yield from ((f"+ {function_name(each)}", Tone.PLAIN) for each in change.functions_added)
    yield from ((f"- {function_name(each)}", Tone.WARN) for each in change.functions_dropped)
    yield from ((f"+ callback {each}", Tone.PLAIN) for each in change.callbacks_added)
    yield from ((f"- callback {each}", Tone.WARN) for each in change.callbacks_dropped)


def _loading(difference: Difference) -> tuple[Value, ...]:
    if difference.loading:
        reasons = tuple(_plain(each.message) for each in difference.loading)
        return ("refused where the old one is in force", Tone.BAD), *reasons
    if difference.states is None:
        return (("cannot be known", Tone.WARN),)
    return (("not refused by the kernel where the old one is in force", Tone.GOOD),)


def _reversal(difference: Difference) -> tuple[Value, ...]:
    reasons = tuple(_plain(each.message) for each in difference.findings)
    match difference.reversible:
        case True:
            return (("safe: nothing that it takes back has to be restored, or can be", Tone.GOOD),)
        case False:
            return ("not safe", Tone.BAD), *reasons
        case None:
            return ("cannot be known", Tone.WARN), *reasons
