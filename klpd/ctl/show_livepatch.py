# SPDX-License-Identifier: GPL-2.0-or-later
"""A livepatch module as its file describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from klpd.ctl.page import Span, Tone, line
from klpd.model import Demand

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from klpd.ctl.names import Names
    from klpd.ctl.page import Line, Page
    from klpd.judge.compare import Side
    from klpd.model import DeclaredState, Function, Livepatch, Object, State, Trust

UNKNOWN: Final = "unknown: only its code, running, would tell"
# A SHA-256 behind it fills a line of 80 columns.
_INDENT: Final = 16
# How many lines there are for what may be long, on a page with a width: all of it has to fit into 24 together.
_STATES: Final = 4
_FIXES: Final = 2
_OBJECTS: Final = 4
_FUNCTIONS: Final = 6
_DEMANDS: Final = {
    Demand.SIG_ENFORCE: "the kernel refuses what its keyrings do not verify (sig_enforce)",
    Demand.LOCKDOWN: "the kernel refuses what its keyrings do not verify (lockdown)",
    Demand.NOTHING: "the kernel does not demand signatures",
    Demand.UNCHECKED: "the kernel does not check signatures",
    None: "whether the kernel demands signatures cannot be read",
}


class _Listing(NamedTuple):
    """A value that is a list: cut where it takes more than so many lines."""

    items: tuple[str, ...]
    lines: int
    title: str = ""


def show_livepatch(
    livepatch: Livepatch, page: Page, names: Names, trust: Trust, demand: Demand | None
) -> Iterator[Line]:
    """What is known of a livepatch from its file, one subject a line; on a page with a width, long lists are cut.

    `trust`: what the policy's certificates say of its signature; `demand`: what the running kernel wants of it.
    """
    for label, values in _fields(livepatch, page, names, trust, demand):
        head = line(Span(f"{label + ':':<{_INDENT}}", Tone.FAINT))
        for value in values:
            if isinstance(value, _Listing):
                yield from page.listing(
                    value.items, lines=value.lines, title=value.title, head=head, indent=_INDENT + 2
                )
            else:
                yield from page.paragraph(value, head=head, indent=_INDENT)
            head = line(" " * _INDENT)


def _fields(
    livepatch: Livepatch, page: Page, names: Names, trust: Trust, demand: Demand | None
) -> Iterator[tuple[str, Sequence[str | _Listing]]]:
    yield "name", (named(livepatch),)
    optional = (("description", livepatch.description), ("license", livepatch.license))
    yield from ((label, (value,)) for label, value in optional if value is not None)
    yield "vermagic", (livepatch.vermagic or "none",)
    layout = "" if livepatch.layout is None else f"; layout: {livepatch.layout}"
    yield "format", (f"{livepatch.format}, {livepatch.size} bytes{layout}",)
    yield "atomic replace", (yes_no(livepatch.replace, UNKNOWN),)
    yield "states", _cut(_states(livepatch, names), page, _STATES)
    if livepatch.declared.unreadable is not None:
        yield "declared", (f"there may be more: {livepatch.declared.unreadable}",)
    if livepatch.declared.title is not None:
        yield "title", (livepatch.declared.title,)
    if livepatch.declared.fixes:
        yield "fixes", (_Listing(livepatch.declared.fixes, _FIXES),)
    yield "objects", _objects(livepatch.objects, page)
    yield "depends", (_Listing(livepatch.depends or ("nothing",), 1),)
    yield "signature", (_signature(livepatch, trust), _DEMANDS[demand])
    yield "build id", (livepatch.build_id or "none",)
    if livepatch.srcversion is not None:
        yield "srcversion", (livepatch.srcversion,)
    yield "sha256", (livepatch.digest,)


def named(what: Livepatch | Side) -> str:
    """A livepatch by its name, and the version that its module claims to have."""
    return what.name if what.version is None else f"{what.name}, version {what.version}"


def yes_no(value: bool | None, unknown: str) -> str:  # noqa: FBT001  a value to show, not a switch
    """A fact that may not be known."""
    return unknown if value is None else "yes" if value else "no"


def _states(livepatch: Livepatch, names: Names) -> tuple[str, ...]:
    real = tuple(_state(each, names) for each in livepatch.states or ())
    declared = tuple(_declared(each, names) for each in livepatch.declared.states or ())
    if real or declared:
        return (*real, *declared)
    if livepatch.states is None and livepatch.declared.states is None:
        return (UNKNOWN,)
    if livepatch.declared.states is not None:
        return (f"none, as is declared in {_declarers(livepatch)}",)
    return (f"none: {livepatch.format} cannot give a livepatch any" if livepatch.format.stateless else "none",)


def _state(state: State | DeclaredState, names: Names) -> str:
    name = names.get(state.id)
    return f"{state.id:#x} version {state.version}" + ("" if name is None else f" ({name})")


def _declared(state: DeclaredState, names: Names) -> str:
    what = [f"declared in {state.rule}"]
    if state.sticky:
        what.append("sticky")
    if state.restores is not None:
        what.append("restored by a reversal" if state.restores else "not restored by a reversal")
    return f"{_state(state, names)}: {', '.join(what)}"


def _declarers(livepatch: Livepatch) -> str:
    return ", ".join(livepatch.declared.files) or "its modinfo"


def _cut(values: Sequence[str | _Listing], page: Page, most: int) -> Sequence[str | _Listing]:
    if page.width is None or len(values) <= most:
        return values
    return (*values[: most - 1], f"... and {len(values) - most + 1} more; --json has all")


def _objects(objects: tuple[Object, ...] | None, page: Page) -> Sequence[str | _Listing]:
    if objects is None:
        return (UNKNOWN,)
    if not objects:
        return ("none",)
    # Without a width a list is one line, however long.
    lines = 1 if page.width is None else _FUNCTIONS // len(objects)
    return _cut([_object(each, lines) for each in objects], page, _OBJECTS)


def _object(each: Object, lines: int) -> str | _Listing:
    count = len(each.functions)
    name = f"{each.name}, a module that never comes" if each.misnamed else each.name
    title = f"{name}: {count or 'no'} function{'s' if count > 1 else ''}"
    if each.callbacks:
        title += f"; callbacks {', '.join(each.callbacks)}"
    if not each.functions or lines == 0:
        return title
    return _Listing(tuple(function_name(function) for function in each.functions), lines, f"{title}: ")


def function_name(function: Function) -> str:
    """A function, and which of several of that name."""
    return function.name if function.sympos == 0 else f"{function.name} (sympos {function.sympos})"


def _signature(livepatch: Livepatch, trust: Trust) -> str:
    signature = livepatch.signature
    if signature is None:
        return "none"
    signer = trust.signer or signature.signer
    details = [f"by {signer}" if signer else "signer not named"]
    if signature.key_id is not None:
        details.append(f"key {signature.key_id}")
    if signature.hash_algorithm is not None:
        details.append(signature.hash_algorithm)
    if trust.trusted:
        return f"{', '.join(details)}, verified with {trust.detail}"
    return f"{', '.join(details)} (claimed, not verified: {trust.detail})"
