# SPDX-License-Identifier: GPL-2.0-or-later
"""What is in files and what would happen: `klpctl inspect`, `klpctl diff`, `klpctl check` and `klpctl plan`."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from klpd.errors import CannotTellError, DaemonUnavailableError, ExitStatus, PolicyError

if TYPE_CHECKING:
    from klpd.ctl.context import Context
    from klpd.ctl.requests import Change
    from klpd.model import Assessment, Decision, Livepatch, Verdict
    from klpd.report import PlanReport


def inspect(context: Context, file: str) -> int:
    from klpd.ctl.show_livepatch import show_livepatch
    from klpd.judge.declared import with_manifests
    from klpd.judge.rules import without_certificates

    status = ExitStatus.OK
    try:
        policy = context.machine.policy()
        livepatch = with_manifests(context.machine.livepatch(file), policy)
        trust = policy.trust(livepatch)
    except PolicyError as error:
        # What the module holds is no less true because what is declared of it makes no sense.
        for each in error.all:
            context.console.complain(str(each))
        livepatch, status = context.machine.module(file), error.exit_status
        trust = without_certificates(livepatch.signature)
    demand = context.machine.demand()
    if context.json:
        whole = {each.name: getattr(livepatch, each.name) for each in fields(livepatch)}
        context.console.json(whole | {"trust": trust, "kernel_demand": demand})
    else:
        names = context.machine.names() if livepatch.carried else {}
        context.console.show(show_livepatch(livepatch, context.console.page, names, trust, demand))
    return status


def diff(context: Context, old: str, new: str) -> int:
    from klpd.ctl.show_diff import show_difference
    from klpd.judge.compare import compare

    difference = compare(*(_as_told(context.machine.livepatch(each)) for each in (old, new)))
    if context.json:
        context.console.json(difference)
    else:
        names = context.machine.names() if difference.states else {}
        context.console.show(show_difference(difference, context.console.page, names))
    return ExitStatus.OK


def _as_told(livepatch: Livepatch) -> Livepatch:
    """`livepatch` by what could be read of it: a comparison is of that."""
    return replace(livepatch, declared=replace(livepatch.declared, unreadable=None))


def check(context: Context, file: str) -> int:
    try:
        assessment = context.connect().check(file)
    except DaemonUnavailableError as error:
        assessment = _judged_here(context, file)
        context.console.complain(f"judged without klpd, this is what it would say: {error}")
    show_verdict(context, assessment)
    return status_of(assessment.decision)


def _judged_here(context: Context, file: str) -> Assessment:
    try:
        return context.machine.assess(file)
    except PolicyError as error:
        if any(each.forbidden for each in error.all):
            raise CannotTellError(f"{error.account}\nask as root, or with klpd running") from error
        raise


def plan(context: Context, change: Change) -> int:
    plan = context.connect().plan(change)
    show_plan(context, plan)
    return status_of(plan.decision)


def show_verdict(context: Context, verdict: Verdict) -> None:
    """A verdict in whole, with what becomes of the livepatch by each way if that is in it."""
    from klpd.ctl import show_verdict

    if context.json:
        context.console.json(verdict)
    else:
        names = context.machine.names() if verdict.changes else {}
        context.console.show(show_verdict.show_verdict(verdict, context.console.page, names))


def show_plan(context: Context, plan: PlanReport) -> None:
    """The steps of a plan."""
    from klpd.ctl import show_verdict

    if context.json:
        context.console.json(plan)
    else:
        context.console.show(show_verdict.show_plan(plan, context.console.page, context.machine.names()))


def status_of(decision: Decision) -> ExitStatus:
    """The exit status for a verdict."""
    return {
        "allow": ExitStatus.OK,
        "deny": ExitStatus.VETOED,
        "unknown": ExitStatus.CANNOT_TELL,
    }[decision.value]
