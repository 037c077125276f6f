# SPDX-License-Identifier: GPL-2.0-or-later
"""A small world for klpctl's tests: a site's rules, its stack, and what klpd says of both."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Final

from klpd.ctl.page import Page
from klpd.judge.rules import Mode, Permission, Policy, Ruling, StateRule, Way
from klpd.judge.verdict import judge
from klpd.model import (
    Admission,
    Assessment,
    Callback,
    Decision,
    Disable,
    Format,
    Function,
    Installed,
    InstalledObject,
    Leftover,
    Livepatch,
    Load,
    Object,
    Outcome,
    Remove,
    Rule,
    RuleKind,
    Signature,
    Stack,
    State,
    StatesSource,
)
from klpd.report import (
    Defence,
    DefenceState,
    JobReport,
    JobState,
    PlanReport,
    PolicyReport,
    Prospect,
    StateName,
    Status,
    StepReport,
    Straggler,
    TransitionReport,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from klpd.ctl.page import Line
    from klpd.model import Verdict
    from klpd.report import StepState

NAMES: Final = {0x1001: "console_loglevel"}
FILE: Final = "/etc/klpd/policy.d/50-site.toml"


def at(line: int) -> Rule:
    """A rule of the site."""
    return Rule(RuleKind.POLICY, FILE, line)


POLICY: Final = Policy(
    mode=Mode.ENFORCE,
    default=Ruling(Permission.ALLOW, at(2)),
    unknown_states=Ruling(Permission.DENY, at(3)),
    states={
        0x1001: StateRule(0x1001, at(5), "console_loglevel", {Way.DROP: Ruling(Permission.DENY, at(7))}),
    },
    files=(FILE,),
)


def livepatch(version: int) -> Livepatch:
    """klp_vVERSION, with state 0x1001 of that version."""
    return Livepatch(
        name=f"klp_v{version}",
        digest=f"{version:x}" * 64,
        size=4096,
        replace=True,
        states=(State(0x1001, version),),
        objects=(
            Object("vmlinux", (Function("cmdline_proc_show"), Function("local_func", 2)), (Callback.PRE_PATCH,)),
            Object("nf_tables", (Function("nft_flush"),)),
        ),
        format=Format.STATIC,
        vermagic="6.1.0-13-amd64 SMP preempt mod_unload modversions",
        depends=("nf_tables", "libcrc32c"),
        build_id="aa" * 20,
        srcversion="0123456789ABCDEF",
        version="1.0",
        description="shows another command line",
        license="GPL",
        signature=Signature("Example Kernel CA", "1234", "sha256"),
    )


INSTALLED: Final = Installed(
    name="klp_v2",
    replace=True,
    states=(State(0x1001, 2), State(0x2, 1)),
    states_source=StatesSource.MEMORY,
    objects=(
        InstalledObject("vmlinux", (Function("cmdline_proc_show"), Function("other")), patched=True),
        InstalledObject("nf_tables", (Function("nft_flush"),), patched=False),
    ),
    digest="2" * 64,
    kernel_verified=False,
)
ALONE: Final = Stack((Installed("klp_v2", replace=True, states=(State(0x1001, 2),)),), kernel_release="6.1.0-13-amd64")

APPROVED: Final[Verdict] = judge(ALONE, Load(livepatch(3)), POLICY)
VETOED: Final[Verdict] = judge(ALONE, Load(livepatch(1)), POLICY)
STICKY: Final[Verdict] = judge(ALONE, Disable("klp_v2"), POLICY)
OPEN: Final[Verdict] = judge(
    Stack((Installed("kpatch_1"),), kernel_release="6.1.0-13-amd64", readable=False), Load(livepatch(1)), POLICY
)
REMOVAL: Final[Verdict] = judge(Stack(leftovers=(Leftover("klp_v2", removable=True),)), Remove("klp_v2"), POLICY)

_OUTCOMES: Final = {
    Decision.ALLOW: Outcome.ALLOWED,
    Decision.DENY: Outcome.REFUSED,
    Decision.UNKNOWN: Outcome.UNKNOWN,
}


def assessed(verdict: Verdict, insmod: Admission | None = None, apply: Admission | None = None) -> Assessment:
    """A verdict with what each way comes to: what it says, unless told otherwise."""
    usual = Admission(_OUTCOMES[verdict.decision], verdict.reasons if verdict.decision is not Decision.ALLOW else ())
    values = {each.name: getattr(verdict, each.name) for each in fields(verdict)}
    return Assessment(**values, insmod=insmod or usual, apply=apply or usual)


PLAN: Final = PlanReport("apply klp_v3", APPROVED.decision, (APPROVED, REMOVAL))
REFUSED_PLAN: Final = PlanReport("revert to the unpatched kernel", STICKY.decision, (STICKY,), gap=True)

STATUS: Final = Status(
    version="0.1.0",
    policy=PolicyReport("enforce", "deny", "deny", (FILE,), names=(StateName(0x1001, "console_loglevel"),)),
    defences=(
        Defence("hold", DefenceState.UP, "/lib/modules/6.1.0-13-amd64"),
        Defence("guard", DefenceState.DOWN, "bpf is not in /sys/kernel/security/lsm"),
        Defence("reconcile", DefenceState.DEGRADED, "kernel memory cannot be read"),
    ),
    stack=Stack(
        (INSTALLED, Installed("kpatch_1", transition=True)),
        leftovers=(Leftover("klp_v1", removable=True), Leftover("klp_v0", removable=False)),
        kernel_release="6.1.0-13-amd64",
    ),
)


HELD: Final = Straggler(
    pid=812,
    tid=813,
    command="klp_test_held",
    since=1000.0,
    run_state="S",
    wchan="klp_test_wait",
    stack=("klp_test_wait [klp_test_target]", "kthread"),
    function="klp_test_wait [klp_test_target]",
)
TRANSITION: Final = TransitionReport(
    "klp_v3",
    "patched",
    134,
    timeout=300.0,
    on_timeout="reverse",
    may_force=False,
    stragglers=(HELD,),
    since=1000.0,
    job=7,
    prospect=Prospect("klp_v3", "reverse", due=1300.0),
)


def job(
    state: JobState = JobState.RUNNING,
    *steps: StepState,
    progress: float = 0.0,
    stragglers: tuple[Straggler, ...] = (),
    error: str | None = None,
    message: str | None = None,
) -> JobReport:
    """Job 7, which loads klp_v3 and removes klp_v2; the steps are in these states."""
    reports = tuple(StepReport(verdict, each) for verdict, each in zip((APPROVED, REMOVAL), steps, strict=False))
    return JobReport(7, "apply", "apply klp_v3", state, reports, progress, stragglers, error, message)


def text_of(lines: Iterable[Line], page: Page = Page()) -> str:  # noqa: B008  a value
    """What lines look like on a page, the bare one if none is given."""
    return "\n".join(page.render(each) for each in lines)
