# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands: from a request to what is shown and an exit status.

Each imports what it needs when it runs, so that none pays for another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, assert_never

from klpd.ctl import requests
from klpd.errors import DaemonUnavailableError, ExitStatus, KlpdError

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.ctl.console import Console
    from klpd.ctl.local import Machine
    from klpd.ctl.service import Service
    from klpd.model import Decision, Verdict
    from klpd.report import JobReport, PlanReport

INTERRUPTED: Final = 130
"""The exit status of a command that somebody ended with Ctrl-C, as shells have it: 128 + SIGINT."""


class Commands:
    """Carries out requests.  `connect` raises DaemonUnavailableError where there is no klpd to be asked."""

    def __init__(self, console: Console, connect: Callable[[], Service], machine: Machine, *, json: bool) -> None:
        self.console = console
        self.connect = connect
        self.machine = machine
        self.json = json

    def run(self, request: requests.Request) -> int:
        """The exit status.  Raises KlpdError for what went wrong."""
        match request:
            case requests.Status():
                return self._status()
            case requests.Inspect(file):
                return self._inspect(file)
            case requests.Check(file):
                return self._check(file)
            case requests.Plan(change):
                return self._plan(change)
            case requests.Perform(change, confirmed):
                return self._perform(change, confirmed=confirmed)
            case requests.Log():
                return self._log(request)
            case requests.PolicyCheck(files):
                return self._policy_check(files)
            case requests.PolicyCat():
                return self._policy_cat()
            case requests.Reload():
                self.connect().reload()
                return ExitStatus.OK
            case requests.GuardStatus():
                return self._guard_status()
            case requests.OpenGuard():
                return self._open_guard()
            case requests.CloseGuard():
                self.connect().close_guard()
                return ExitStatus.OK
            case _:
                assert_never(request)

    def _guard_status(self) -> int:
        from klpd.ctl.show_status import show_defences
        from klpd.report import DefenceState

        guard = next(each for each in self.connect().status().defences if each.name == "guard")
        if self.json:
            self.console.json(guard)
        else:
            self.console.show(show_defences((guard,), self.console.page))
        return ExitStatus.OK if guard.state is DefenceState.UP else ExitStatus.FAILED

    def _open_guard(self) -> int:
        try:
            self.connect().open_guard()
        except DaemonUnavailableError:
            self.machine.open_guard()
        self.console.complain("the guard is open: every livepatch comes in until `klpctl guard close` or the next boot")
        return ExitStatus.OK

    def _status(self) -> int:
        from klpd.ctl.show_status import show_status

        try:
            status = self.connect().status()
        except DaemonUnavailableError:
            self._stack_alone()
            raise
        if self.json:
            self.console.json(status)
        else:
            names = self.machine.names() if status.stack.livepatches else {}
            self.console.show(show_status(status, self.console.page, names))
        return ExitStatus.OK

    def _stack_alone(self) -> None:
        """What the kernel shows, where klpd tells nothing."""
        from klpd.ctl.show_status import show_stack

        try:
            stack = self.machine.stack()
        except KlpdError as error:
            self.console.complain(str(error))
            return
        if self.json:
            self.console.json({"stack": stack})
        else:
            self.console.show(show_stack(stack, self.console.page, self.machine.names() if stack.livepatches else {}))

    def _inspect(self, file: str) -> int:
        from klpd.ctl.show_livepatch import show_livepatch

        livepatch = self.machine.livepatch(file)
        if self.json:
            self.console.json(livepatch)
        else:
            names = self.machine.names() if livepatch.carried else {}
            self.console.show(show_livepatch(livepatch, self.console.page, names))
        return ExitStatus.OK

    def _check(self, file: str) -> int:
        try:
            verdict = self.connect().check(file)
        except DaemonUnavailableError as error:
            verdict = self._judged_here(file)
            self.console.complain(f"judged without klpd, this is what it would say: {error}")
        self._show_verdict(verdict)
        return _status_of(verdict.decision)

    def _judged_here(self, file: str) -> Verdict:
        from klpd.judge.verdict import judge
        from klpd.model import Load

        livepatch = self.machine.livepatch(file)
        return judge(self.machine.stack(), Load(livepatch), self.machine.policy())

    def _show_verdict(self, verdict: Verdict) -> None:
        from klpd.ctl.show_verdict import show_verdict

        if self.json:
            self.console.json(verdict)
        else:
            names = self.machine.names() if verdict.changes else {}
            self.console.show(show_verdict(verdict, self.console.page, names))

    def _plan(self, change: requests.Change) -> int:
        plan = self.connect().plan(change)
        self._show_plan(plan)
        return _status_of(plan.decision)

    def _show_plan(self, plan: PlanReport) -> None:
        from klpd.ctl.show_verdict import show_plan

        if self.json:
            self.console.json(plan)
        else:
            self.console.show(show_plan(plan, self.console.page, self.machine.names()))

    def _perform(self, change: requests.Change, *, confirmed: bool) -> int:
        service = self.connect()
        if isinstance(change, requests.Revert) and not self.json:
            refused = self._revert_refused(service, change, confirmed=confirmed)
            if refused is not None:
                return refused
        return self._followed(service, service.start(change))

    def _revert_refused(self, service: Service, change: requests.Revert, *, confirmed: bool) -> ExitStatus | None:
        """Show the way back; the exit status where it is not to be taken."""
        from klpd.model import Decision

        plan = service.plan(change)
        self._show_plan(plan)
        if plan.decision is not Decision.ALLOW:
            if service.status().policy.mode != "audit":
                return _status_of(plan.decision)
            self.console.complain("the policy does not allow this, but is in audit mode")
        if not plan.steps or confirmed or not self.console.attended:
            return None
        return None if self.console.agrees("Take these steps?") else ExitStatus.FAILED

    def _followed(self, service: Service, job: str) -> int:
        from klpd.ctl.follow import follow
        from klpd.ctl.progress import Silent

        display = Silent() if self.json else self.console.display()
        report = follow(service.follow(job), lambda: service.cancel(job), display)
        if report is None:
            self.console.complain("the job goes on without klpctl; how far it is: klpctl status")
            return INTERRUPTED
        return self._ended(report)

    def _ended(self, report: JobReport) -> int:
        from klpd.ctl.service import exit_status_of
        from klpd.ctl.show_verdict import obstacle
        from klpd.report import JobState

        done = report.state is JobState.DONE
        status = ExitStatus.OK if done else exit_status_of(report.error)
        if self.json:
            self.console.json(report)
        elif done:
            from klpd.ctl.page import Span, Tone, line

            details = (f" ({report.message})",) if report.message else ()
            self.console.show([line(f"{report.goal}: ", Span("done", Tone.GOOD), *details)])
        elif status is ExitStatus.VETOED and (verdict := obstacle(report)) is not None:
            self._show_verdict(verdict)
            self.console.complain(f"{report.goal}: vetoed")
        else:
            self.console.complain(f"{report.goal}: {report.message or report.state.value}")
        return status

    def _log(self, request: requests.Log) -> int:
        from klpd.ctl.journal import open_journal, read_entries, why_none
        from klpd.ctl.show_log import show_entry, to_json

        shown = False
        for entry in read_entries(open_journal(), request):
            shown = True
            if self.json:
                self.console.json(to_json(entry), indent=None)
            else:
                self.console.show(show_entry(entry, self.console.page))
            if request.follow:
                self.console.out.flush()
        if not shown:
            self.console.complain(why_none())
        return ExitStatus.OK

    def _policy_check(self, files: tuple[str, ...]) -> int:
        from klpd.ctl.page import line

        status = ExitStatus.OK
        checked = files or self.machine.policy_files()
        for file in checked:
            complaints = self.machine.policy_complaints(file)
            for each in complaints:
                status = each.exit_status
                self.console.complain(str(each))
            if not complaints:
                self.console.show([line(f"{file}: ok")])
        if not checked:
            self.console.show([line("no policy files: the defaults hold")])
        return status

    def _policy_cat(self) -> int:
        for file in self.machine.policy_files():
            self.console.out.write(f"# {file}\n{self.machine.policy_text(file).rstrip()}\n\n")
        return ExitStatus.OK


def _status_of(decision: Decision) -> ExitStatus:
    return {
        "allow": ExitStatus.OK,
        "deny": ExitStatus.VETOED,
        "unknown": ExitStatus.CANNOT_TELL,
    }[decision.value]
