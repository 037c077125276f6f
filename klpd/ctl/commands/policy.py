# SPDX-License-Identifier: GPL-2.0-or-later
"""The policy files: `klpctl policy check`, `klpctl policy cat` and `klpctl reload`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from klpd.ctl.context import Context
    from klpd.ctl.requests import PolicyCheck
    from klpd.policy.read import Checked


def check_files(context: Context, request: PolicyCheck) -> int:
    results = context.machine.policy_checked(request.files, unsafe=request.unsafe)
    status = show_checked(context, results, none="no policy files: the defaults hold")
    if not context.json and any(each.exposed for checked in results.values() for each in checked.complaints):
        context.console.complain("to check what such files say all the same: klpctl policy check --unsafe")
    return status


def show_checked(context: Context, results: Mapping[str, Checked], *, none: str) -> int:
    """What is to be said of each file; `none` is said where there is no file.  The exit status."""
    if context.json:
        context.console.json(
            {
                file: [str(each) for each in (*checked.complaints, *checked.warnings)]
                for file, checked in results.items()
            }
        )
    else:
        _show(context, results, none)
    complaints = (each for checked in results.values() for each in checked.complaints)
    return max((each.exit_status for each in complaints), default=ExitStatus.OK)


def _show(context: Context, results: Mapping[str, Checked], none: str) -> None:
    from klpd.ctl.page import line

    for file, checked in results.items():
        for each in (*checked.complaints, *checked.warnings):
            context.console.complain(str(each))
        if not checked.complaints:
            context.console.show([line(f"{file}: ok")])
    if not results:
        context.console.show([line(none)])


def cat(context: Context) -> int:
    texts: dict[str, str] = {}
    files, complaints = context.machine.policy_files()
    for each in complaints:
        context.console.complain(str(each))
    status = max((each.exit_status for each in complaints), default=ExitStatus.OK)
    for file in files:
        try:
            text = context.machine.policy_text(file)
        except UsageError as error:
            context.console.complain(str(error))
            status = error.exit_status
            continue
        texts[file] = text
        if not context.json:
            context.console.out.write(f"# {file}\n{text.rstrip()}\n\n")
    if context.json:
        context.console.json(texts)
    return status


def reload(context: Context) -> int:
    context.connect().reload()
    return ExitStatus.OK
