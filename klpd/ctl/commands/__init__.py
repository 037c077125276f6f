# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands: from a request to what is shown and an exit status.

Each imports what it needs when it runs, so that none pays for another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from klpd.ctl import requests

if TYPE_CHECKING:
    from klpd.ctl.context import Context


def run(request: requests.Request, context: Context) -> int:
    """Carry out a request; the exit status.  Raises KlpdError for what went wrong."""
    match request:
        case requests.Bare():
            return _bare(request, context)
        case requests.Perform(change, confirmed):
            from klpd.ctl.commands.change import perform

            return perform(context, change, confirmed=confirmed)
        case requests.Wait(job):
            from klpd.ctl.commands.change import wait

            return wait(context, job)
        case requests.Approve(file, seconds):
            from klpd.ctl.commands.approve import approve

            return approve(context, file, seconds)
        case requests.PolicyCheck() | requests.ManifestNew() | requests.ManifestCheck():
            return _on_files(request, context)
        case _:
            return _look(request, context)


def _bare(request: requests.Bare, context: Context) -> int:
    match request:
        case requests.Bare.STATUS:
            from klpd.ctl.commands.installed import status

            return status(context)
        case requests.Bare.JOBS:
            from klpd.ctl.commands.watch import jobs

            return jobs(context)
        case requests.Bare.POLICY_CAT:
            from klpd.ctl.commands.policy import cat

            return cat(context)
        case requests.Bare.RELOAD:
            from klpd.ctl.commands.policy import reload

            return reload(context)
        case requests.Bare.GUARD_STATUS:
            from klpd.ctl.commands.guard import show_guard

            return show_guard(context)
        case requests.Bare.GUARD_OPEN:
            from klpd.ctl.commands.guard import open_guard

            return open_guard(context)
        case requests.Bare.GUARD_CLOSE:
            from klpd.ctl.commands.guard import close_guard

            return close_guard(context)
        case _:
            assert_never(request)


def _on_files(request: requests.OnFiles, context: Context) -> int:
    match request:
        case requests.PolicyCheck():
            from klpd.ctl.commands.policy import check_files

            return check_files(context, request)
        case requests.ManifestNew(file, output):
            from klpd.ctl.commands.manifest import new

            return new(context, file, output)
        case requests.ManifestCheck(manifest, file):
            from klpd.ctl.commands.manifest import check

            return check(context, manifest, file)
        case _:
            assert_never(request)


def _look(request: requests.Look, context: Context) -> int:
    match request:
        case requests.List(names):
            from klpd.ctl.commands.installed import list_installed

            return list_installed(context, names=names)
        case requests.Inspect(file):
            from klpd.ctl.commands.judge import inspect

            return inspect(context, file)
        case requests.Diff(old, new):
            from klpd.ctl.commands.judge import diff

            return diff(context, old, new)
        case requests.Check(file):
            from klpd.ctl.commands.judge import check

            return check(context, file)
        case requests.Plan(change):
            from klpd.ctl.commands.judge import plan

            return plan(context, change)
        case requests.Blockers(follow):
            from klpd.ctl.commands.watch import blockers

            return blockers(context, follow=follow)
        case requests.Log():
            from klpd.ctl.commands.watch import log

            return log(context, request)
        case _:
            assert_never(request)
