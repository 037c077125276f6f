# SPDX-License-Identifier: GPL-2.0-or-later
"""A livepatch module as its file describes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.ctl.page import Span, Tone, line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.ctl.names import Names
    from klpd.ctl.page import Line, Page
    from klpd.model import DeclaredState, Function, Livepatch, Object, State, Trust

UNKNOWN: Final = "unknown: only its code, running, would tell"
_INDENT: Final = 18


def show_livepatch(livepatch: Livepatch, page: Page, names: Names, trust: Trust) -> Iterator[Line]:
    """Everything that is known of a livepatch from its file, one subject a line.

    `trust`: what the policy's certificates say of its signature.
    """
    for label, values in _fields(livepatch, names, trust):
        head = line(Span(f"{label + ':':<{_INDENT}}", Tone.FAINT))
        for value in values:
            yield from page.paragraph(value, head=head, indent=_INDENT)
            head = line(" " * _INDENT)


def _fields(livepatch: Livepatch, names: Names, trust: Trust) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield "name", (livepatch.name,)
    optional = (
        ("version", livepatch.version),
        ("description", livepatch.description),
        ("license", livepatch.license),
    )
    yield from ((label, (value,)) for label, value in optional if value is not None)
    yield "kernel", (livepatch.kernel_release or "none named",)
    yield "vermagic", (livepatch.vermagic or "none",)
    yield "format", (livepatch.format,)
    yield "atomic replace", (yes_no(livepatch.replace, UNKNOWN),)
    yield "states", _states(livepatch, names)
    if livepatch.declared.title is not None:
        yield "title", (livepatch.declared.title,)
    if livepatch.declared.fixes:
        yield "fixes", (", ".join(livepatch.declared.fixes),)
    yield "objects", _objects(livepatch.objects)
    yield "depends", (", ".join(livepatch.depends) or "nothing",)
    yield "signature", (_signature(livepatch, trust),)
    yield "build id", (livepatch.build_id or "none",)
    yield "srcversion", (livepatch.srcversion or "none",)
    yield "sha256", (livepatch.digest,)
    yield "size", (f"{livepatch.size} bytes",)


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


def _objects(objects: tuple[Object, ...] | None) -> tuple[str, ...]:
    if objects is None:
        return (UNKNOWN,)
    return tuple(_object(each) for each in objects) or ("none",)


def _object(each: Object) -> str:
    text = f"{each.name}: {', '.join(function_name(function) for function in each.functions) or 'no function'}"
    return text + (f"; callbacks {', '.join(each.callbacks)}" if each.callbacks else "")


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
