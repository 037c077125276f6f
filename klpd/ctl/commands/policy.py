# SPDX-License-Identifier: GPL-2.0-or-later
"""The policy files: `klpctl policy check`, `klpctl policy cat` and `klpctl reload`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.errors import ExitStatus

if TYPE_CHECKING:
    from klpd.ctl.context import Context


def check_files(context: Context, files: tuple[str, ...]) -> int:
    status = ExitStatus.OK
    results: dict[str, list[str]] = {}
    for file in files or context.machine.policy_files():
        complaints = context.machine.policy_complaints(file)
        results[file] = [str(each) for each in complaints]
        for each in complaints:
            status = each.exit_status
    if context.json:
        context.console.json(results)
    else:
        _show(context, results)
    return status


def _show(context: Context, results: dict[str, list[str]]) -> None:
    from klpd.ctl.page import line

    for file, complaints in results.items():
        for each in complaints:
            context.console.complain(each)
        if not complaints:
            context.console.show([line(f"{file}: ok")])
    if not results:
        context.console.show([line("no policy files: the defaults hold")])


def cat(context: Context) -> int:
    texts = {file: context.machine.policy_text(file) for file in context.machine.policy_files()}
    if context.json:
        context.console.json(texts)
    else:
        for file, text in texts.items():
            context.console.out.write(f"# {file}\n{text.rstrip()}\n\n")
    return ExitStatus.OK


def reload(context: Context) -> int:
    context.connect().reload()
    return ExitStatus.OK
