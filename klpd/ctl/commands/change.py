# SPDX-License-Identifier: GPL-2.0-or-later
"""What changes the kernel, and jobs followed to their end: `klpctl apply` and the like, and `klpctl wait`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.ctl.commands.judge import show_plan, show_verdict, status_of
from klpd.ctl.requests import Force, Revert
from klpd.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.ctl.context import Context
    from klpd.ctl.requests import Change
    from klpd.ctl.service import Service
    from klpd.report import JobReport

INTERRUPTED: Final = 130
"""The exit status of a command that somebody ended with Ctrl-C, as shells have it: 128 + SIGINT."""
_QUESTIONS: Final[dict[type[Change], str]] = {
    Revert: "Take these steps?",
    Force: "Tasks that still run the former functions may meet the new ones, and the machine may fail. Force it?",
}
"""What is asked before a change, once its plan has been shown."""


def perform(context: Context, change: Change, *, confirmed: bool) -> int:
    service = context.connect()
    if not context.json and (question := _QUESTIONS.get(type(change))) is not None:
        refused = _refused(context, service, change, None if confirmed else question)
        if refused is not None:
            return refused
    job = service.start(change)
    return _followed(context, service, job, lambda: service.cancel(job))


def wait(context: Context, job: int) -> int:
    from klpd.ctl.service import job_path

    service = context.connect()
    if all(each.id != job for each in service.status().jobs):
        raise UsageError(f"klpd knows no job {job}, or no longer; klpctl jobs lists those that it knows")
    return _followed(context, service, job_path(job), None)


def _refused(context: Context, service: Service, change: Change, question: str | None) -> ExitStatus | None:
    """Show the plan; the exit status where it is not to be carried out."""
    from klpd.model import Decision

    plan = service.plan(change)
    show_plan(context, plan)
    context.console.out.flush()  # whoever reads it elsewhere is to know what is coming, not what was
    if plan.decision is not Decision.ALLOW:
        if service.status().policy.mode != "audit":
            return status_of(plan.decision)
        context.console.complain("the policy does not allow this, but is in audit mode")
    if not plan.steps or question is None or not context.console.attended:
        return None
    return None if context.console.agrees(question) else ExitStatus.FAILED


def _followed(context: Context, service: Service, job: str, cancel: Callable[[], None] | None) -> int:
    from klpd.ctl.follow import follow
    from klpd.ctl.progress import Silent

    display = Silent() if context.json else context.console.display()
    report = follow(service.follow(job), cancel, display)
    if report is None:
        context.console.complain(f"the job goes on without klpctl; to follow it: klpctl wait {job.rpartition('/')[2]}")
        return INTERRUPTED
    return _ended(context, report)


def _ended(context: Context, report: JobReport) -> int:
    from klpd.ctl.service import exit_status_of
    from klpd.ctl.show_verdict import obstacle
    from klpd.report import JobState

    done = report.state is JobState.DONE
    status = ExitStatus.OK if done else exit_status_of(report.error)
    if context.json:
        context.console.json(report)
    elif done:
        from klpd.ctl.page import Span, Tone, line

        details = (f" ({report.message})",) if report.message else ()
        context.console.show([line(f"{report.goal}: ", Span("done", Tone.GOOD), *details)])
    elif status is ExitStatus.VETOED and (verdict := obstacle(report)) is not None:
        show_verdict(context, verdict)
        context.console.complain(f"{report.goal}: vetoed")
    else:
        context.console.complain(f"{report.goal}: {report.message or report.state.value}")
    return status
