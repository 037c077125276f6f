# SPDX-License-Identifier: GPL-2.0-or-later
"""What each command shows and how it ends, with a klpd and a machine made up."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from klpd.ctl import commands, requests
from klpd.ctl.commands.change import INTERRUPTED
from klpd.ctl.console import Console
from klpd.ctl.context import Context
from klpd.ctl.requests import Apply, Bare, Change, Disable, Force, Perform, Plan, Revert
from klpd.ctl.service import Interrupted, JobEvent
from klpd.errors import CannotTellError, DaemonUnavailableError, ExitStatus, PolicyError, UsageError
from klpd.judge.rules import Manifest
from klpd.judge.ways import Gate, Source, assess
from klpd.model import Assessment, Decision, Declaration, Demand, Livepatch, Rule, RuleKind
from klpd.plain import from_plain, to_plain
from klpd.policy.check import PolicyWarning
from klpd.policy.manifest import parse_manifest
from klpd.policy.read import Checked
from klpd.report import (
    Defence,
    DefenceState,
    JobReport,
    JobState,
    PlanReport,
    StandingApproval,
    Status,
    StepReport,
    StepState,
    TransitionReport,
)
from tests.builders import declares
from tests.unit.ctl.examples import (
    ALONE,
    APPROVED,
    FILE,
    NAMES,
    OPEN,
    PLAN,
    POLICY,
    REFUSED_PLAN,
    STATUS,
    STICKY,
    TRANSITION,
    VETOED,
    assessed,
    job,
    livepatch,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from klpd.ctl.names import Names
    from klpd.judge.rules import Policy
    from klpd.model import Stack, Verdict

DONE = job(JobState.DONE, StepState.DONE, StepState.DONE)
REFUSED = JobReport(
    7,
    "disable",
    "disable klp_v2",
    JobState.FAILED,
    (StepReport(STICKY, StepState.PENDING),),
    error="org.klpd1.Error.Vetoed",
    message="disable of klp_v2 is refused: ...",
)


APPROVAL = StandingApproval("klp_v3", "ab" * 32, "lp.ko", 1000, 1772323200.0)


@dataclass
class Klpd:
    """A klpd that answers as it is told to, and remembers what was begun."""

    assessment: Assessment = field(default_factory=lambda: assessed(APPROVED))
    plan_: PlanReport = PLAN
    status_: Status = STATUS
    events: tuple[JobEvent, ...] = (DONE,)
    transitions: list[TransitionReport] = field(default_factory=list)
    begun: list[Change] = field(default_factory=list)
    approved: list[tuple[str, int]] = field(default_factory=list)
    canceled: int = 0
    reloads: int = 0
    gate: str = "closed"

    def status(self) -> Status:
        return self.status_

    def transition(self) -> TransitionReport | None:
        return self.transitions.pop(0) if self.transitions else None

    def check(self, file: str) -> Assessment:
        assert file == "lp.ko"
        return self.assessment

    def approve(self, file: str, seconds: int) -> StandingApproval:
        self.approved.append((file, seconds))
        return replace(APPROVAL, until=APPROVAL.until + seconds)

    def plan(self, change: Change) -> PlanReport:
        assert self.begun == [], "plans are shown before anything is begun"
        return self.plan_

    def start(self, change: Change) -> str:
        self.begun.append(change)
        return "/org/klpd1/job/7"

    def follow(self, job: str) -> Iterator[JobEvent]:
        assert job == "/org/klpd1/job/7"
        return iter(self.events)

    def cancel(self, job: str) -> None:
        self.canceled += 1

    def reload(self) -> None:
        self.reloads += 1

    def open_guard(self) -> None:
        self.gate = "open"

    def close_guard(self) -> None:
        self.gate = "closed"


class Computer:
    """A machine with klp_v2 in force, on which klp_v3 lies as lp.ko."""

    gate = "closed"

    def open_guard(self) -> None:
        self.gate = "open"

    def livepatch(self, file: str) -> Livepatch:
        if file == "spoilt.ko":
            raise PolicyError("it makes no sense", file="spoilt.livepatch.toml")
        if file != "lp.ko":
            raise UsageError(f"cannot open {file}: No such file or directory")
        return livepatch(3)

    def module(self, file: str) -> Livepatch:
        return self.livepatch("lp.ko" if file == "spoilt.ko" else file)

    def assess(self, file: str) -> Assessment:
        return assess(ALONE, self.livepatch(file), self.policy(), Source(file, watched=True), Gate.CLOSED)

    def stack(self) -> Stack:
        return ALONE

    def demand(self) -> Demand:
        return Demand.LOCKDOWN

    def livepatch_names(self) -> tuple[str, ...]:
        return tuple(each.name for each in ALONE.livepatches)

    def policy(self) -> Policy:
        return POLICY

    def names(self) -> Names:
        return NAMES

    def policy_files(self) -> tuple[tuple[str, ...], tuple[PolicyError, ...]]:
        return (FILE,), ()

    def policy_checked(self, files: tuple[str, ...], *, unsafe: bool) -> dict[str, Checked]:
        return {each: self._checked(each, unsafe=unsafe) for each in files or (FILE,)}

    def _checked(self, file: str, *, unsafe: bool) -> Checked:
        if file == "broken.toml":
            return Checked(tuple(PolicyError("no such key", file=file, line=line, column=1) for line in (3, 4)))
        if file == "theirs.toml" and not unsafe:
            return Checked((PolicyError("it belongs to user 1000", file=file, exposed=True),))
        return Checked(warnings=(PolicyWarning("never decides", file, 7),) if file == "shadowed.toml" else ())

    def policy_text(self, file: str) -> str:
        if file != FILE:
            raise UsageError(f"cannot read {file}")
        return '[policy]\ndefault = "allow"\n'

    def manifest_files(self) -> tuple[tuple[str, ...], tuple[PolicyError, ...]]:
        return ("/etc/klpd/livepatches.d/lp.toml",), ()

    def manifest(self, file: str) -> Manifest | None:
        match file:
            case "mask.toml":
                return None
            case "broken.toml":
                complaints = [PolicyError("no such key", file=file, line=line, column=1) for line in (3, 4)]
                raise PolicyError.of(complaints)
            case "other.toml":
                return Manifest(file, declares({0x1001: 3}, file=file), sha256="0" * 64)
            case "wrong.toml":
                return Manifest(file, declares({0x1001: 9}, file=file), sha256=livepatch(3).digest)
        return Manifest(file, declares({0x1001: 3}, file=file), sha256=livepatch(3).digest)


class Terminal(io.StringIO):
    """Standard input or output that somebody sits at."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("no descriptor, and so no size")


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str


def run(request: requests.Request, klpd: Klpd | None, *, json: bool = False, typed: str | None = None) -> Outcome:
    """Run a request; without a klpd none answers; `typed` is what somebody at a terminal types."""
    out, err = io.StringIO() if typed is None else Terminal(), io.StringIO()
    keyboard = io.StringIO() if typed is None else Terminal(typed)

    def connect() -> Klpd:
        if klpd is None:
            raise DaemonUnavailableError("klpd is not running")
        return klpd

    status = commands.run(request, Context(Console(keyboard, out, err, {}), connect, Computer(), json=json))
    return Outcome(status, out.getvalue(), err.getvalue())


def test_status_shows_states_by_the_sites_names() -> None:
    outcome = run(Bare.STATUS, Klpd())
    assert outcome.status == ExitStatus.OK
    assert "0x1001:2 (console_loglevel)" in outcome.out


def test_status_without_klpd_shows_the_kernels_livepatches_and_fails() -> None:
    out = io.StringIO()

    def connect() -> Klpd:
        raise DaemonUnavailableError("klpd is not running")

    context = Context(Console(io.StringIO(), out, io.StringIO(), {}), connect, Computer(), json=False)
    with pytest.raises(DaemonUnavailableError):
        commands.run(Bare.STATUS, context)
    assert "klp_v2" in out.getvalue()


def test_what_any_program_may_load_is_told_with_its_end_and_its_bytes() -> None:
    klpd = Klpd()
    outcome = run(requests.Approve("lp.ko", 600), klpd)
    assert (outcome.status, klpd.approved) == (ExitStatus.OK, [("lp.ko", 600)])
    assert "klp_v3: approved: any program may load it until 20" in outcome.out
    assert "SHA-256 abababababababab..., by user 1000" in " ".join(outcome.out.split())


def test_what_is_taken_back_is_said_to_be_approved_no_longer() -> None:
    assert run(requests.Approve("lp.ko", 0), Klpd()).out == "klp_v3: not approved any longer\n"


def test_the_status_tells_what_any_program_may_load_and_what_is_refused_all_the_same() -> None:
    refused = replace(APPROVAL, livepatch="klp_v4", refused="the policy denies it")
    outcome = run(Bare.STATUS, Klpd(status_=replace(STATUS, approvals=(APPROVAL, refused))))
    assert "Approved for any program\nklp_v3: approved: " in outcome.out
    assert "klp_v4: approved, and refused now: the policy denies it; it ends at" in outcome.out


def test_list_has_a_line_for_each_livepatch() -> None:
    outcome = run(requests.List(names=False), Klpd())
    assert (outcome.status, outcome.err) == (ExitStatus.OK, "")
    assert outcome.out.splitlines() == [
        "livepatch  is                            replace  states",
        "klp_v2     enabled, waits for nf_tables  yes      0x1001:2 (console_loglevel), 0x2:1",
        "kpatch_1   patching                      unknown  unknown",
    ]


def test_list_without_klpd_is_as_the_kernel_shows_it_and_says_so() -> None:
    outcome = run(requests.List(names=False), None)
    assert outcome.status == ExitStatus.OK
    assert outcome.out.splitlines()[1].split()[:2] == ["klp_v2", "enabled"]
    assert outcome.err == "klpctl: as the kernel shows them: klpd is not running\n"


@pytest.mark.parametrize(("as_json", "shown"), [(False, "klp_v2\n"), (True, '[\n  "klp_v2"\n]\n')])
def test_names_alone_are_listed_without_klpd(as_json: bool, shown: str) -> None:
    assert run(requests.List(names=True), None, json=as_json) == Outcome(ExitStatus.OK, shown, "")


def test_jobs_are_listed_with_those_that_have_ended() -> None:
    jobs = (job(JobState.DONE), replace(job(JobState.WAITING), id=8))
    klpd = Klpd(status_=replace(STATUS, jobs=jobs))
    assert [each.split()[0] for each in run(Bare.JOBS, klpd).out.splitlines()] == ["id", "7", "8"]
    assert json.loads(run(Bare.JOBS, klpd, json=True).out) == to_plain(jobs)


def test_a_job_is_waited_for_and_its_end_is_the_exit_status() -> None:
    klpd = Klpd(status_=replace(STATUS, jobs=(job(),)), events=(REFUSED,))
    assert run(requests.Wait(7), klpd).status == ExitStatus.VETOED
    with pytest.raises(UsageError, match="klpd knows no job 8, or no longer; klpctl jobs lists"):
        run(requests.Wait(8), klpd)


def test_who_waits_leaves_with_one_interrupt_and_cancels_nothing() -> None:
    klpd = Klpd(status_=replace(STATUS, jobs=(job(),)), events=(job(), Interrupted(), DONE))
    outcome = run(requests.Wait(7), klpd)
    assert (outcome.status, klpd.canceled) == (INTERRUPTED, 0)


def test_blockers_are_shown_once_or_not_at_all_where_no_transition_runs() -> None:
    shown = run(requests.Blockers(follow=False), Klpd(transitions=[TRANSITION]))
    assert shown.out.startswith("klp_v3: patching, 1 of 134 tasks left, for ")
    nothing = Outcome(ExitStatus.OK, "no transition runs\n", "")
    assert run(requests.Blockers(follow=False), Klpd()) == nothing
    assert run(requests.Blockers(follow=True), Klpd()) == nothing
    assert run(requests.Blockers(follow=False), Klpd(), json=True).out == "{}\n"


def test_blockers_followed_as_json_are_a_line_for_each_change_and_an_empty_object_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    later = replace(TRANSITION, stragglers=())
    klpd = Klpd(transitions=[TRANSITION, TRANSITION, later])
    lines = run(requests.Blockers(follow=True), klpd, json=True).out.splitlines()
    assert [json.loads(each) for each in lines] == [to_plain(TRANSITION), to_plain(later), {}]


@pytest.mark.parametrize(
    ("verdict", "status"),
    [(APPROVED, ExitStatus.OK), (VETOED, ExitStatus.VETOED), (OPEN, ExitStatus.CANNOT_TELL)],
)
def test_check_ends_as_its_verdict_does(verdict: Verdict, status: ExitStatus) -> None:
    assert run(requests.Check("lp.ko"), Klpd(assessment=assessed(verdict))).status == status


def test_check_without_klpd_judges_by_itself_and_says_so() -> None:
    outcome = run(requests.Check("lp.ko"), None)
    assert outcome.status == ExitStatus.OK
    assert outcome.out.endswith("klp_v3: approved\n")
    assert outcome.err == "klpctl: judged without klpd, this is what it would say: klpd is not running\n"


def test_check_of_no_file_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="cannot open gone"):
        run(requests.Check("gone"), None)


def test_inspect_needs_no_klpd() -> None:
    outcome = run(requests.Inspect("lp.ko"), None)
    assert outcome.status == ExitStatus.OK
    assert "0x1001 version 3 (console_loglevel)" in outcome.out
    assert "the kernel refuses what its keyrings do not verify (lockdown)" in outcome.out


def test_inspect_as_json_has_what_the_kernel_demands() -> None:
    outcome = run(requests.Inspect("lp.ko"), None, json=True)
    assert json.loads(outcome.out)["kernel_demand"] == "lockdown"


def test_diff_needs_no_klpd_and_ends_well_whatever_differs() -> None:
    outcome = run(requests.Diff("lp.ko", "lp.ko"), None)
    assert outcome.status == ExitStatus.OK
    assert "0x1001 version 3: stays (console_loglevel)" in outcome.out


def test_diff_as_json() -> None:
    outcome = run(requests.Diff("lp.ko", "lp.ko"), None, json=True)
    assert json.loads(outcome.out)["states"] == [{"id": 0x1001, "before": 3, "after": 3}]


@pytest.mark.parametrize(("plan", "status"), [(PLAN, ExitStatus.OK), (REFUSED_PLAN, ExitStatus.VETOED)])
def test_a_plan_is_shown_and_nothing_is_begun(plan: PlanReport, status: ExitStatus) -> None:
    klpd = Klpd(plan_=plan)
    outcome = run(Plan(Apply(("lp.ko",))), klpd)
    assert (outcome.status, klpd.begun) == (status, [])
    assert outcome.out.startswith(plan.goal)


def test_apply_shows_the_steps_as_they_happen_and_the_result() -> None:
    klpd = Klpd(events=(job(JobState.RUNNING, StepState.RUNNING, StepState.PENDING), DONE))
    outcome = run(Perform(Apply(("lp.ko",)), confirmed=True), klpd)
    assert (outcome.status, klpd.begun) == (ExitStatus.OK, [Apply(("lp.ko",))])
    assert outcome.out.splitlines() == [
        "loading klp_v3 ...",
        "loading klp_v3: done",
        "removing the module klp_v2: done",
        "apply klp_v3: done",
    ]


def test_success_without_doing_anything_is_said() -> None:
    klpd = Klpd(events=(job(JobState.DONE, message="nothing to do: it is so already"),))
    outcome = run(Perform(Apply(("lp.ko",)), confirmed=True), klpd)
    assert outcome == Outcome(ExitStatus.OK, "apply klp_v3: done (nothing to do: it is so already)\n", "")


def test_a_refused_change_tells_its_reasons_as_check_does() -> None:
    outcome = run(Perform(Disable("klp_v2"), confirmed=True), Klpd(events=(REFUSED,)))
    assert outcome.status == ExitStatus.VETOED
    assert "  rule:   /etc/klpd/policy.d/50-site.toml:7\n" in outcome.out
    assert outcome.err == "klpctl: disable klp_v2: vetoed\n"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("org.klpd1.Error.NotAuthorized", ExitStatus.NOT_AUTHORIZED),
        ("org.klpd1.Error.BadModule", ExitStatus.USAGE),
        ("org.klpd1.Error.TimedOut", ExitStatus.FAILED),
        ("org.klpd1.Error.Canceled", ExitStatus.FAILED),
        ("org.klpd1.Error.Vetoed", ExitStatus.VETOED),
    ],
)
def test_a_job_that_fails_ends_with_its_message_and_the_status_of_its_error(error: str, status: ExitStatus) -> None:
    klpd = Klpd(events=(job(JobState.FAILED, error=error, message="it did not work"),))
    outcome = run(Perform(Apply(("lp.ko",)), confirmed=True), klpd)
    assert outcome == Outcome(status, "", "klpctl: apply klp_v3: it did not work\n")


def test_interrupted_twice_the_job_is_left_alone() -> None:
    klpd = Klpd(events=(job(), Interrupted(), Interrupted()))
    outcome = run(Perform(Apply(("lp.ko",)), confirmed=True), klpd)
    assert (outcome.status, klpd.canceled) == (INTERRUPTED, 1)
    assert "to follow it: klpctl wait 7" in outcome.err


REVERT = Perform(Revert(""), confirmed=False)


def test_revert_shows_its_steps_before_anything_is_begun() -> None:
    klpd = Klpd()
    outcome = run(REVERT, klpd)
    assert outcome.out.startswith("apply klp_v3\n  1. load klp_v3: approved\n")
    assert klpd.begun == [Revert("")]


@pytest.mark.parametrize(
    ("typed", "begun"), [("y\n", True), ("YES\n", True), ("n\n", False), ("\n", False), ("", False), ("sure\n", False)]
)
def test_revert_asks_whoever_sits_at_the_terminal(typed: str, begun: bool) -> None:
    klpd = Klpd()
    outcome = run(REVERT, klpd, typed=typed)
    assert "Take these steps? [y/N] " in outcome.out
    assert bool(klpd.begun) is begun
    assert outcome.status == (ExitStatus.OK if begun else ExitStatus.FAILED)


@pytest.mark.parametrize(("typed", "begun"), [("y\n", True), ("n\n", False)])
def test_forcing_is_asked_about_with_what_it_means(typed: str, begun: bool) -> None:
    klpd = Klpd()
    outcome = run(Perform(Force(""), confirmed=False), klpd, typed=typed)
    assert "the machine may fail. Force it? [y/N] " in outcome.out
    assert klpd.begun == ([Force("")] if begun else [])


def test_a_transition_that_no_rule_lets_be_forced_is_not_asked_about() -> None:
    klpd = Klpd(plan_=REFUSED_PLAN)
    outcome = run(Perform(Force(""), confirmed=False), klpd, typed="y\n")
    assert (outcome.status, klpd.begun) == (ExitStatus.VETOED, [])
    assert "[y/N]" not in outcome.out


def test_revert_does_not_ask_who_has_said_yes() -> None:
    outcome = run(Perform(Revert(""), confirmed=True), Klpd(), typed="")
    assert outcome.status == ExitStatus.OK
    assert "[y/N]" not in outcome.out


def test_a_revert_that_the_policy_refuses_is_not_begun() -> None:
    klpd = Klpd(plan_=REFUSED_PLAN)
    assert run(REVERT, klpd).status == ExitStatus.VETOED
    assert klpd.begun == []


def test_in_audit_mode_it_is_begun_all_the_same() -> None:
    audit = replace(STATUS, policy=replace(STATUS.policy, mode="audit"))
    klpd = Klpd(plan_=REFUSED_PLAN, status_=audit)
    outcome = run(REVERT, klpd)
    assert (outcome.status, klpd.begun) == (ExitStatus.OK, [Revert("")])
    assert "is in audit mode" in outcome.err


@pytest.mark.parametrize(
    ("request_", "value"),
    [
        (Bare.STATUS, STATUS),
        (requests.Check("lp.ko"), assessed(APPROVED)),
        (Plan(Apply(("lp.ko",))), PLAN),
        (Perform(Apply(("lp.ko",)), confirmed=True), DONE),
        (REVERT, DONE),
    ],
)
def test_json_output_is_the_value_and_nothing_else(request_: requests.Request, value: object) -> None:
    outcome = run(request_, Klpd(), json=True)
    assert json.loads(outcome.out) == to_plain(value)
    assert from_plain(type(value), json.loads(outcome.out)) == value
    assert outcome.err == ""


def test_json_of_a_livepatch_tells_how_far_its_signature_is_trusted() -> None:
    shown = json.loads(run(requests.Inspect("lp.ko"), None, json=True).out)
    assert from_plain(Livepatch, shown) == livepatch(3)
    assert shown["trust"]["standing"] == "unverified"


def test_json_of_a_refused_job_has_its_exit_status() -> None:
    outcome = run(Perform(Disable("klp_v2"), confirmed=True), Klpd(events=(REFUSED,)), json=True)
    assert outcome.status == ExitStatus.VETOED
    assert json.loads(outcome.out)["error"] == "org.klpd1.Error.Vetoed"


@pytest.mark.parametrize(("given", "checked"), [(("a.toml", "b.toml"), ("a.toml", "b.toml")), ((), (FILE,))])
def test_policy_files_that_check_are_named(given: tuple[str, ...], checked: tuple[str, ...]) -> None:
    shown = "".join(f"{each}: ok\n" for each in checked)
    assert run(requests.PolicyCheck(given), None) == Outcome(ExitStatus.OK, shown, "")


def test_all_that_is_wrong_with_policy_files_is_told() -> None:
    complaints = "klpctl: broken.toml:3:1: no such key\nklpctl: broken.toml:4:1: no such key\n"
    outcome = run(requests.PolicyCheck(("broken.toml", "a.toml")), None)
    assert outcome == Outcome(ExitStatus.USAGE, "a.toml: ok\n", complaints)


def test_a_warning_is_told_and_is_no_error() -> None:
    warning = "shadowed.toml:7: warning: never decides"
    outcome = run(requests.PolicyCheck(("shadowed.toml",)), None)
    assert outcome == Outcome(ExitStatus.OK, "shadowed.toml: ok\n", f"klpctl: {warning}\n")
    as_json = run(requests.PolicyCheck(("shadowed.toml",)), None, json=True)
    assert (as_json.status, json.loads(as_json.out)) == (ExitStatus.OK, {"shadowed.toml": [warning]})


def test_who_checks_files_of_others_is_told_how() -> None:
    outcome = run(requests.PolicyCheck(("theirs.toml",)), None)
    assert outcome.status == ExitStatus.USAGE
    assert outcome.err.splitlines()[0] == "klpctl: theirs.toml: it belongs to user 1000"
    assert "klpctl policy check --unsafe" in outcome.err.splitlines()[1]
    unsafe = run(requests.PolicyCheck(("theirs.toml",), unsafe=True), None)
    assert unsafe == Outcome(ExitStatus.OK, "theirs.toml: ok\n", "")


@pytest.mark.parametrize(
    ("manifest", "module", "checked"),
    [
        ("lp.toml", "lp.ko", "lp.toml"),
        ("other.toml", "", "other.toml"),
        ("wrong.toml", "", "wrong.toml"),
        ("mask.toml", "", "mask.toml"),
        ("mask.toml", "lp.ko", "mask.toml"),
        ("", "", "/etc/klpd/livepatches.d/lp.toml"),
    ],
)
def test_manifests_that_check_are_named(manifest: str, module: str, checked: str) -> None:
    outcome = run(requests.ManifestCheck(manifest, module), None)
    assert outcome == Outcome(ExitStatus.OK, f"{checked}: ok\n", "")


@pytest.mark.parametrize(
    ("manifest", "complaints"),
    [
        ("broken.toml", ["broken.toml:3:1: no such key", "broken.toml:4:1: no such key"]),
        ("other.toml", ["other.toml: it is not for klp_v3, whose sha256 is 333"]),
        ("wrong.toml", ["wrong.toml:1: state 0x1001 of klp_v3 is declared in version 9, but it carries version 3"]),
    ],
)
def test_all_that_is_wrong_with_a_manifest_is_told(manifest: str, complaints: list[str]) -> None:
    outcome = run(requests.ManifestCheck(manifest, "lp.ko"), None)
    assert (outcome.status, outcome.out) == (ExitStatus.USAGE, "")
    told = outcome.err.splitlines()
    assert len(told) == len(complaints)
    assert all(each.startswith(f"klpctl: {complaint}") for each, complaint in zip(told, complaints, strict=True))


def test_a_new_manifest_goes_to_standard_output_or_to_a_new_file(tmp_path: Path) -> None:
    text = run(requests.ManifestNew("lp.ko", ""), None).out
    assert parse_manifest(text.encode(), "lp.toml").is_for(livepatch(3))
    output = tmp_path / "lp.livepatch.toml"
    assert run(requests.ManifestNew("lp.ko", str(output)), None) == Outcome(ExitStatus.OK, "", "")
    assert output.read_text() == text
    with pytest.raises(UsageError, match="exists already"):
        run(requests.ManifestNew("lp.ko", str(output)), None)
    with pytest.raises(UsageError, match="cannot write"):
        run(requests.ManifestNew("lp.ko", str(tmp_path / "none" / "lp.toml")), None)
    assert json.loads(run(requests.ManifestNew("lp.ko", ""), None, json=True).out) == {"manifest": text}


def test_a_module_whose_manifest_makes_no_sense_is_shown_all_the_same() -> None:
    outcome = run(requests.Inspect("spoilt.ko"), None)
    assert outcome.status == ExitStatus.USAGE
    assert "name:           klp_v3" in outcome.out
    assert outcome.err == "klpctl: spoilt.livepatch.toml: it makes no sense\n"


def test_policy_files_are_printed_with_their_names() -> None:
    assert run(Bare.POLICY_CAT, None).out == f'# {FILE}\n[policy]\ndefault = "allow"\n\n'


def test_policy_files_that_cannot_be_read_keep_no_others_from_being_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    complaint = PolicyError("cannot be read: a link leads to nothing", file="10-a.toml")
    monkeypatch.setattr(Computer, "policy_files", lambda _self: (("20-b.toml", FILE), (complaint,)))
    outcome = run(Bare.POLICY_CAT, None)
    assert outcome.status == ExitStatus.USAGE
    assert outcome.out == f'# {FILE}\n[policy]\ndefault = "allow"\n\n'
    assert outcome.err.splitlines() == [f"klpctl: {complaint}", "klpctl: cannot read 20-b.toml"]
    as_json = run(Bare.POLICY_CAT, None, json=True)
    assert json.loads(as_json.out) == {FILE: '[policy]\ndefault = "allow"\n'}


def test_who_may_not_read_the_policy_cannot_tell_without_klpd(monkeypatch: pytest.MonkeyPatch) -> None:
    def policy(_self: Computer) -> Policy:
        wrong = PolicyError("no such key", file="50.toml", line=1)
        raise PolicyError.of([wrong, PolicyError("cannot be read", file="60.toml", forbidden=True)])

    monkeypatch.setattr(Computer, "policy", policy)
    with pytest.raises(CannotTellError, match=r"50\.toml:1: no such key\n60\.toml: cannot be read\nask as root"):
        run(requests.Check("lp.ko"), None)


def test_a_policy_that_is_wrong_is_told_as_such_without_klpd(monkeypatch: pytest.MonkeyPatch) -> None:
    def policy(_self: Computer) -> Policy:
        raise PolicyError("no such key", file="50.toml", line=1)

    monkeypatch.setattr(Computer, "policy", policy)
    with pytest.raises(PolicyError, match="no such key"):
        run(requests.Check("lp.ko"), None)


def test_a_directory_of_manifests_that_is_no_good_keeps_no_others_from_being_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    complaint = PolicyError("a link leads to nothing", file="/etc/klpd/livepatches.d")
    monkeypatch.setattr(Computer, "manifest_files", lambda _self: (("lp.toml",), (complaint,)))
    outcome = run(requests.ManifestCheck("", ""), None)
    assert outcome == Outcome(ExitStatus.USAGE, "lp.toml: ok\n", f"klpctl: {complaint}\n")


def test_manifests_of_the_site_that_contradict_each_other_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    states = Manifest("a.toml", declares({1: 1}, file="a.toml"), sha256="0" * 64)
    none = Declaration((), stateless=(Rule(RuleKind.DECLARED, "b.toml", 3),))
    manifests = {"a.toml": states, "b.toml": Manifest("b.toml", none, sha256="0" * 64)}
    monkeypatch.setattr(Computer, "manifest_files", lambda _self: (tuple(manifests), ()))
    monkeypatch.setattr(Computer, "manifest", lambda _self, file: manifests[file])
    outcome = run(requests.ManifestCheck("", ""), None)
    assert (outcome.status, outcome.out) == (ExitStatus.USAGE, "a.toml: ok\n")
    assert outcome.err.startswith("klpctl: b.toml:3: the livepatch with sha256 000")
    assert "is declared to change no state, but a.toml:1 declares state 0x1 version 1" in outcome.err


def test_policy_files_come_as_json_with_what_is_wrong_or_what_they_say() -> None:
    checked = run(requests.PolicyCheck(("broken.toml", "a.toml")), None, json=True)
    assert (checked.status, checked.err) == (ExitStatus.USAGE, "")
    complaints = ["broken.toml:3:1: no such key", "broken.toml:4:1: no such key"]
    assert json.loads(checked.out) == {"broken.toml": complaints, "a.toml": []}
    assert json.loads(run(Bare.POLICY_CAT, None, json=True).out) == {FILE: '[policy]\ndefault = "allow"\n'}


def test_reload_asks_klpd() -> None:
    klpd = Klpd()
    assert run(Bare.RELOAD, klpd).status == ExitStatus.OK
    assert klpd.reloads == 1


def test_the_guards_state_is_the_exit_status() -> None:
    down = run(Bare.GUARD_STATUS, Klpd())
    assert (down.status, "bpf is not in" in down.out) == (ExitStatus.FAILED, True)
    up = replace(STATUS, defences=(Defence("guard", DefenceState.UP, "closed"),))
    assert run(Bare.GUARD_STATUS, Klpd(status_=up)).status == ExitStatus.OK


def test_the_guard_is_opened_and_closed_by_klpd() -> None:
    klpd = Klpd()
    opened = run(Bare.GUARD_OPEN, klpd)
    assert (opened.status, klpd.gate) == (ExitStatus.OK, "open")
    assert "every livepatch comes in" in opened.err
    assert run(Bare.GUARD_CLOSE, klpd).status == ExitStatus.OK
    assert klpd.gate == "closed"


def test_a_plan_without_steps_is_not_asked_about() -> None:
    klpd = Klpd(plan_=PlanReport("revert", Decision.ALLOW, ()))
    assert "[y/N]" not in run(REVERT, klpd, typed="").out
