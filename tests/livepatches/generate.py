# SPDX-License-Identifier: GPL-2.0-or-later
"""The C source of a row of the table, from livepatch.c.in."""

from __future__ import annotations

from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from klpd.model import VMLINUX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from klpd.model import Function, Object
    from tests.livepatches.table import Row


def source(row: Row) -> str:
    """The C source of the livepatch that `row` describes."""
    functions = sorted({function.name for each in row.objects for function in each.functions})
    return Template((Path(__file__).parent / "livepatch.c.in").read_text()).substitute(
        name=row.name,
        about=row.about,
        includes=_lines(f'#include "{name}.h"' for name in functions),
        pre_patch_result=row.pre_patch_result,
        functions="\n\n".join(_functions(number, each.functions) for number, each in enumerate(row.objects)),
        objects=_lines(line for number, each in enumerate(row.objects) for line in _object(number, each)),
        states=_states(row),
        members=_lines(_members(row)),
        declared=_lines(f'MODULE_INFO(klpd_state, "{each}");' for each in row.declared),
        version="" if row.version is None else f'MODULE_VERSION("{row.version}");',
    )


def _functions(number: int, functions: Iterable[Function]) -> str:
    entries = (
        f'\t{{ .old_name = "{each.name}", .new_func = livepatch_{each.name}, .old_sympos = {each.sympos} }},'
        for each in functions
    )
    return _array(f"klp_func functions_{number}", entries)


def _object(number: int, described: Object) -> Iterator[str]:
    yield "\t{"
    if described.name != VMLINUX or described.misnamed:
        yield f'\t\t.name = "{described.name}",'
    yield f"\t\t.funcs = functions_{number},"
    for each in described.callbacks:
        yield f"\t\t.callbacks.{each} = {each},"
    yield "\t},"


def _states(row: Row) -> str:
    entries = [f"\t{{ .id = {each.id:#x}, .version = {each.version} }}," for each in row.states]
    return _array("klp_state states", entries) if entries else ""


def _members(row: Row) -> Iterator[str]:
    if row.states:
        yield "\t.states = states,"
    if row.replace:
        yield "\t.replace = true,"


def _array(declared: str, entries: Iterable[str]) -> str:
    return _lines([f"static struct {declared}[] = {{", *entries, "\t{ }", "};"])


def _lines(lines: Iterable[str]) -> str:
    return "\n".join(lines)
