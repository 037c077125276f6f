# SPDX-License-Identifier: GPL-2.0-or-later
"""The policy files: `klpctl policy check`, `klpctl policy cat` and `klpctl reload`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.errors import ExitStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from klpd.ctl.context import Context
    from klpd.errors import PolicyError


def check_files(context: Context, files: tuple[str, ...]) -> int:
    results = {each: context.machine.policy_complaints(each) for each in files or context.machine.policy_files()}
    return show_checked(context, results, none="no policy files: the defaults hold")


def show_checked(context: Context, results: Mapping[str, tuple[PolicyError, ...]], *, none: str) -> int:
    """What is wrong with each file; `none` is said where there is no file.  The exit status."""
    told = {file: [str(each) for each in complaints] for file, complaints in results.items()}
    if context.json:
        context.console.json(told)
    else:
        _show(context, told, none)
    return max((each.exit_status for complaints in results.values() for each in complaints), default=ExitStatus.OK)


def _show(context: Context, told: Mapping[str, list[str]], none: str) -> None:
    from klpd.ctl.page import line

    for file, complaints in told.items():
        for each in complaints:
            context.console.complain(each)
        if not complaints:
            context.console.show([line(f"{file}: ok")])
    if not told:
        context.console.show([line(none)])


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
