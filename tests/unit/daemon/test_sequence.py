# SPDX-License-Identifier: GPL-2.0-or-later
"""A sequence carries out its plan, judges again before each step, and takes back what it cannot finish."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from klpd.daemon.course import CanceledError, Course
from klpd.daemon.judged import JudgedKernel
from klpd.daemon.sequence import Sequence
from klpd.errors import JobError, OvertakenError, TimedOutError, VetoedError
from klpd.judge.planner import Plan, plan_apply, plan_disable, plan_revert
from klpd.judge.rules import Mode, OnTimeout, Permission, Policy, Ruling, StateRule, TransitionRules, Way
from klpd.judge.steps import Step
from klpd.judge.verdict import judge
from klpd.model import Force, Load, Rule, RuleKind, State
from klpd.report import Prospect
from tests.unit.daemon.fake_kernel import FakeKernel, livepatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.model import Livepatch
    from klpd.report import StepState, Straggler

RULE = Rule(RuleKind.POLICY, "/etc/klpd/policy.d/50-test.toml", 3)
ALLOW = Ruling(Permission.ALLOW, RULE)
POLICY = Policy(mode=Mode.ENFORCE, default=ALLOW, unknown_states=ALLOW)

ONE = livepatch("klp_one")
TWO = livepatch("klp_two")


@dataclass
class Notes:
    """An observer that writes everything down."""

    steps: list[tuple[int, str]] = field(default_factory=list)
    parts: list[float] = field(default_factory=list)
    stragglers: list[str] = field(default_factory=list)
    courses: list[Course] = field(default_factory=list)
    prospects: list[Prospect | None] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    approved: list[str] = field(default_factory=list)

    def step(self, index: int, state: StepState) -> None:
        self.steps.append((index, state.value))

    def progress(self, part: float, stragglers: tuple[Straggler, ...]) -> None:
        self.parts.append(part)
        self.stragglers = [each.command for each in stragglers]

    def course(self, course: Course) -> None:
        self.courses.append(course)

    def prospect(self, prospect: Prospect | None) -> None:
        self.prospects.append(prospect)

    def note(self, message: str) -> None:
        self.notes.append(message)


def kernel(*known: Livepatch, lasting: int | None = 1) -> FakeKernel:
    return FakeKernel({each.digest: each for each in known}, lasting)


def run(fake: FakeKernel, plan: Plan, *, policy: Policy = POLICY, cancel: threading.Event | None = None) -> Notes:
    notes = Notes()
    sequence(fake, notes, lambda: policy, cancel).run(plan)
    return notes


def sequence(
    fake: FakeKernel, notes: Notes, policy: Callable[[], Policy], cancel: threading.Event | None = None
) -> Sequence:
    judged = JudgedKernel(fake, policy, str.encode)
    return Sequence(judged, notes.approved.append, notes, cancel or threading.Event())


def test_apply_loads_and_removes_what_was_replaced() -> None:
    fake = kernel(ONE, TWO)
    fake.install(ONE)
    notes = run(fake, plan_apply(fake.now, TWO, POLICY))
    assert fake.calls == ["load klp_two", "remove klp_one"]
    assert [each.name for each in fake.now.livepatches] == ["klp_two"]
    assert notes.steps == [(0, "running"), (0, "done"), (1, "running"), (1, "done")]
    assert notes.approved == ["klp_two"]


def test_a_livepatch_is_loaded_with_its_parameters() -> None:
    fake = kernel(ONE)
    run(fake, plan_apply(fake.now, replace(ONE, parameters=("a=1", "b=two words")), POLICY))
    assert fake.calls == ['load klp_one a=1 b="two words"']


@pytest.mark.parametrize(("really", "left"), [(True, ["klp_two"]), (False, ["klp_one", "klp_two"])])
def test_whether_a_livepatch_replaces_may_show_only_when_it_is_loaded(*, really: bool, left: list[str]) -> None:
    fake = kernel(ONE, replace(TWO, replace=really))
    fake.install(ONE)
    run(fake, plan_apply(fake.now, replace(TWO, replace=None), POLICY))
    assert [each.name for each in fake.now.livepatches] == left
    assert fake.now.leftovers == ()


def test_disable_waits_for_the_last_reference_to_go() -> None:
    fake = kernel(ONE)
    fake.install(ONE)
    fake.busy_removals = 2
    run(fake, plan_disable(fake.now, "klp_one", POLICY))
    assert fake.calls == ["disable klp_one", "remove klp_one", "remove klp_one", "remove klp_one"]
    assert fake.now.leftovers == ()


def test_progress_is_the_part_of_tasks_that_have_switched() -> None:
    fake = kernel(ONE, lasting=3)
    notes = run(fake, plan_apply(fake.now, ONE, POLICY))
    assert set(notes.parts) == {0.5}
    assert notes.stragglers == ["sleeper"]


def test_a_transition_that_takes_too_long_is_reversed_and_its_module_removed() -> None:
    fake = kernel(ONE, lasting=None)
    with pytest.raises(TimedOutError, match=r"sleeper\[7\]"):
        run(fake, plan_apply(fake.now, ONE, POLICY), policy=replace(POLICY, transition=TransitionRules(timeout=0.0)))
    assert fake.calls == ["load klp_one", "disable klp_one", "remove klp_one"]
    assert fake.now.livepatches == ()


def test_what_a_forced_transition_replaced_stays_for_good_and_that_is_told() -> None:
    fake = kernel(ONE, TWO, lasting=None)
    fake.install(ONE)
    rules = TransitionRules(timeout=0.0, on_timeout=OnTimeout.FORCE, force=ALLOW)
    notes = run(fake, plan_apply(fake.now, TWO, POLICY), policy=replace(POLICY, transition=rules))
    assert fake.calls == ["load klp_two", "force klp_two"]
    assert notes.notes[-1] == "klp_one stays: the kernel keeps its module for good, since the transition was forced"
    assert notes.steps[-1] == (1, "done")


def test_one_that_takes_too_long_is_forced_where_a_rule_allows_it() -> None:
    fake = kernel(ONE, lasting=None)
    rules = TransitionRules(timeout=0.0, on_timeout=OnTimeout.FORCE, force=ALLOW)
    notes = run(fake, plan_apply(fake.now, ONE, POLICY), policy=replace(POLICY, transition=rules))
    assert fake.calls == ["load klp_one", "force klp_one"]
    assert notes.notes == [
        "the transition of klp_one took longer than 0 s and was forced; it waited for: sleeper[7]",
    ]


def test_it_is_not_forced_where_no_rule_does() -> None:
    fake = kernel(ONE, lasting=20)
    rules = TransitionRules(timeout=0.0, on_timeout=OnTimeout.FORCE)
    notes = run(fake, plan_apply(fake.now, ONE, POLICY), policy=replace(POLICY, transition=rules))
    assert fake.calls == ["load klp_one"]
    assert "force of klp_one is refused" in notes.notes[0]


def test_forcing_ends_a_transition_that_would_not_end() -> None:
    fake = kernel(ONE, lasting=None)
    fake.load(b"klp_one", "klp_one")
    action = Force("klp_one")
    allowing = replace(POLICY, transition=TransitionRules(force=ALLOW))
    run(fake, Plan("force klp_one", (Step(action, judge(fake.now, action, allowing)),)), policy=allowing)
    assert fake.calls[-1] == "force klp_one"
    assert fake.now.transition is None
    assert [each.name for each in fake.now.livepatches] == ["klp_one"]


def test_on_timeout_wait_waits() -> None:
    fake = kernel(ONE, lasting=20)
    run(
        fake,
        plan_apply(fake.now, ONE, POLICY),
        policy=replace(POLICY, transition=TransitionRules(timeout=0.0, on_timeout=OnTimeout.WAIT)),
    )
    assert [each.name for each in fake.now.livepatches] == ["klp_one"]


def test_canceling_reverses_the_transition() -> None:
    fake = kernel(ONE, lasting=None)
    cancel = threading.Event()
    fake.on_look = lambda looks: cancel.set() if looks > 3 else None
    with pytest.raises(CanceledError):
        run(fake, plan_apply(fake.now, ONE, POLICY), cancel=cancel)
    assert fake.calls == ["load klp_one", "disable klp_one", "remove klp_one"]


def test_a_sticky_state_keeps_its_transition_from_being_canceled() -> None:
    sticky = replace(ONE, states=(State(1, 1),))
    fake = kernel(sticky, lasting=10)
    rules = {1: StateRule(1, RULE, rulings={Way.REVERSE: Ruling(Permission.DENY, RULE)})}
    cancel = threading.Event()
    fake.on_look = lambda looks: cancel.set() if looks > 3 else None
    notes = run(fake, plan_apply(fake.now, sticky, POLICY), policy=replace(POLICY, states=rules), cancel=cancel)
    assert fake.calls == ["load klp_one"]
    (note,) = notes.notes
    assert "50-test.toml:3" in note


def test_a_job_canceled_before_a_step_does_not_begin_it() -> None:
    fake = kernel(ONE)
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(CanceledError, match="load klp_one"):
        run(fake, plan_apply(fake.now, ONE, POLICY), cancel=cancel)
    assert fake.calls == []


def test_each_step_is_judged_again_on_the_stack_that_it_meets() -> None:
    fake = kernel(ONE, TWO)
    plan = plan_apply(fake.now, ONE, POLICY)
    fake.install(ONE)
    with pytest.raises(VetoedError, match="is installed already"):
        run(fake, plan)
    assert fake.calls == []


def test_in_audit_mode_the_policy_stands_in_nobodys_way() -> None:
    fake = kernel(ONE)
    deny = Ruling(Permission.DENY, RULE)
    audit = replace(POLICY, mode=Mode.AUDIT, default=deny)
    notes = run(fake, plan_apply(fake.now, ONE, audit), policy=audit)
    assert notes.approved == []
    assert fake.calls == ["load klp_one"]


def test_a_stack_that_somebody_else_changed_meanwhile_is_reported() -> None:
    addition = livepatch("klp_add", cumulative=False)
    fake = kernel(addition, TWO, lasting=2)
    fake.install(TWO)
    fake.on_look = lambda looks: fake.disable_behind_the_back("klp_two") if looks == 4 else None
    with pytest.raises(JobError, match="something else changed the stack"):
        run(fake, plan_apply(fake.now, addition, POLICY))


@pytest.mark.parametrize("loading", [True, False])
def test_a_transition_that_somebody_else_reverses_is_reported_and_let_alone(*, loading: bool) -> None:
    fake = kernel(ONE, lasting=None)
    if not loading:
        fake.install(ONE)
    fake.on_look = lambda looks: fake.set_enabled("klp_one", enabled=not loading) if looks == 4 else None
    plan = plan_apply(fake.now, ONE, POLICY) if loading else plan_disable(fake.now, "klp_one", POLICY)
    hurried = replace(POLICY, transition=TransitionRules(timeout=0.5))
    with pytest.raises(JobError, match="reversed by somebody else"):
        run(fake, plan, policy=hurried)
    assert fake.calls == (["load klp_one", "disable klp_one"] if loading else ["disable klp_one", "enable klp_one"])


# --- Bound to the stack that was judged ---

STICKY = replace(ONE, states=(State(1, 1),))
KEPT = {1: StateRule(1, RULE, rulings={Way.DROP: Ruling(Permission.DENY, RULE), Way.REVERSE: ALLOW})}
KEEPING = replace(POLICY, states=KEPT)
"""Under which a sticky state may go with a transition that is reversed, but not with a livepatch that is disabled."""


def moving(*, lasting: int | None = None) -> FakeKernel:
    """A kernel in which the transition of klp_one runs, which ends just before the next write."""
    fake = kernel(STICKY, lasting=lasting)
    fake.load(b"klp_one", "klp_one")
    fake.before_write = [fake.settle]
    return fake


def test_a_revert_that_comes_too_late_says_so_and_never_disables() -> None:
    fake = moving()
    with pytest.raises(JobError, match=r"^the transition of klp_one had come to its end before it could be reversed"):
        run(fake, plan_revert(fake.now, (), KEEPING), policy=KEEPING)
    assert fake.calls == ["load klp_one"]


@pytest.mark.parametrize("why", ["canceled", "overdue"])
def test_neither_does_a_transition_that_ends_while_it_is_about_to_be_taken_back(why: str) -> None:
    fake = kernel(STICKY, lasting=None)
    cancel = threading.Event()
    fake.before_write = [lambda: None, fake.settle]
    fake.on_look = lambda looks: cancel.set() if looks > 2 and why == "canceled" else None
    policy = KEEPING if why == "canceled" else replace(KEEPING, transition=TransitionRules(timeout=0.0))
    notes = run(fake, plan_apply(fake.now, STICKY, policy), policy=policy, cancel=cancel)
    assert notes.notes == ["the transition of klp_one had come to its end before it could be reversed"]
    assert fake.calls == ["load klp_one"]
    assert [each.name for each in fake.now.livepatches] == ["klp_one"]


def test_a_reversal_that_somebody_else_was_quicker_with_is_not_taken_back() -> None:
    fake = kernel(STICKY, lasting=None)
    fake.reversal_lasting = 10
    fake.load(b"klp_one", "klp_one")
    fake.before_write = [lambda: fake.set_enabled("klp_one", enabled=False)]
    with pytest.raises(JobError, match="was reversed by somebody else before it could be reversed"):
        run(fake, plan_revert(fake.now, (), KEEPING), policy=KEEPING)
    assert fake.calls == ["load klp_one", "disable klp_one"]


def test_a_disable_is_judged_again_on_what_the_stack_has_become() -> None:
    other = replace(TWO, replace=False, states=(State(1, 1),))
    fake = kernel(STICKY, other)
    fake.install(STICKY, other)
    plan = plan_disable(fake.now, "klp_one", KEEPING)
    fake.before_write = [lambda: fake.disable_behind_the_back("klp_two")]
    with pytest.raises(VetoedError, match="state 0x1"):
        run(fake, plan, policy=KEEPING)
    assert fake.calls == []


def test_a_disable_that_may_still_be_done_on_the_new_stack_is() -> None:
    fake = kernel(ONE, TWO)
    fake.install(replace(TWO, replace=False), replace(ONE, replace=False))
    plan = plan_disable(fake.now, "klp_one", POLICY)
    fake.before_write = [lambda: fake.disable_behind_the_back("klp_two")]
    run(fake, plan)
    assert fake.calls == ["disable klp_one", "remove klp_one"]


def test_a_load_is_judged_again_too() -> None:
    fake = kernel(ONE, TWO)
    plan = plan_apply(fake.now, TWO, POLICY)
    fake.before_write = [lambda: fake.install(ONE)]
    run(fake, plan)
    assert fake.calls == ["load klp_two"]


def test_a_force_that_comes_too_late_says_so() -> None:
    fake = moving()
    action = Force("klp_one")
    allowing = replace(POLICY, transition=TransitionRules(force=ALLOW))
    with pytest.raises(JobError, match=r"^the transition of klp_one had come to its end before it could be forced"):
        run(fake, Plan("force", (Step(action, judge(fake.now, action, allowing)),)), policy=allowing)
    assert fake.calls == ["load klp_one"]


def test_a_stack_that_never_keeps_still_is_given_up() -> None:
    fake = kernel(ONE)
    fake.install(ONE)
    plan = plan_disable(fake.now, "klp_one", POLICY)
    fake.before_write = [lambda: fake.change(fake.now)] * 100
    with pytest.raises(OvertakenError):
        run(fake, plan)
    assert fake.calls == []
    assert len(fake.before_write) > 90


# --- Taken up again ---


def resume(fake: FakeKernel, plan: Plan, first: int = 0, course: Course | None = None) -> Notes:
    notes = Notes()
    sequence(fake, notes, lambda: POLICY).resume(plan, first, course)
    return notes


def replacing() -> tuple[FakeKernel, Plan]:
    fake = kernel(ONE, TWO, lasting=2)
    fake.install(ONE)
    return fake, plan_apply(fake.now, TWO, POLICY)


def test_a_load_that_was_not_begun_is_taken() -> None:
    fake, plan = replacing()
    resume(fake, plan)
    assert fake.calls == ["load klp_two", "remove klp_one"]


def test_a_load_whose_transition_runs_is_watched_to_its_end() -> None:
    fake, plan = replacing()
    fake.load(b"klp_two", "klp_two")
    notes = resume(fake, plan)
    assert fake.calls == ["load klp_two", "remove klp_one"]
    assert notes.stragglers == ["sleeper"]


def test_a_load_that_is_over_is_left_at_that() -> None:
    fake, plan = replacing()
    fake.install(TWO)
    resume(fake, plan)
    assert fake.calls == ["remove klp_one"]


def test_a_removal_that_is_over_is_left_at_that() -> None:
    fake, plan = replacing()
    fake.install(TWO)
    fake.remove("klp_one")
    notes = resume(fake, plan, 1)
    assert fake.calls == ["remove klp_one"]
    assert notes.steps == [(1, "running"), (1, "done")]


@pytest.mark.parametrize("begun", [False, True])
def test_a_disabling_is_begun_or_watched(*, begun: bool) -> None:
    fake = kernel(ONE, lasting=2)
    fake.install(ONE)
    plan = plan_disable(fake.now, "klp_one", POLICY)
    if begun:
        fake.set_enabled("klp_one", enabled=False)
    resume(fake, plan)
    assert fake.calls == ["disable klp_one", "remove klp_one"]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("forwards", [False, True])
def test_a_reversal_is_begun_once_whichever_way_it_goes(*, begun: bool, forwards: bool) -> None:
    fake = kernel(ONE, lasting=None)
    fake.load(b"klp_one", "klp_one")
    if forwards:  # what is reversed goes back itself
        fake.reversal_lasting = 5
        fake.set_enabled("klp_one", enabled=False)
    plan = plan_revert(fake.now, (), POLICY)
    if begun:
        fake.set_enabled("klp_one", enabled=forwards)
    resume(fake, plan, course=Course(goal=forwards, enabled=forwards, since=0.0, reversal=True))
    back = ["disable klp_one", "enable klp_one"] if forwards else ["disable klp_one", "remove klp_one"]
    assert fake.calls == ["load klp_one", *back]


def test_what_somebody_else_took_back_meanwhile_is_an_error() -> None:
    fake = kernel(ONE, lasting=None)
    fake.reversal_lasting = 1
    fake.load(b"klp_one", "klp_one")
    plan = Plan("apply klp_one", (Step(Load(ONE), judge(kernel().now, Load(ONE), POLICY)),))
    fake.set_enabled("klp_one", enabled=False)
    with pytest.raises(JobError, match="reversed by somebody else"):
        resume(fake, plan)


APPLY_ONE = Plan("apply klp_one", (Step(Load(ONE), judge(kernel().now, Load(ONE), POLICY)),))
TAKEN_BACK = [CanceledError("canceled: the transition of klp_one was reversed"), TimedOutError("it took too long")]


def taken_back(ending: JobError) -> Course:
    return Course(goal=True, enabled=False, since=0.0, ending=ending)


@pytest.mark.parametrize("ending", TAKEN_BACK, ids=["canceled", "overdue"])
@pytest.mark.parametrize("over", [False, True])
def test_a_job_that_took_its_transition_back_ends_with_the_reason_that_it_had(*, ending: JobError, over: bool) -> None:
    fake = kernel(ONE, lasting=None)
    fake.reversal_lasting = 2
    fake.load(b"klp_one", "klp_one")
    fake.set_enabled("klp_one", enabled=False)
    if over:
        fake.settle()
    notes = Notes()
    with pytest.raises(type(ending), match=str(ending)):
        sequence(fake, notes, lambda: POLICY).resume(APPLY_ONE, 0, taken_back(ending))
    assert fake.calls == ["load klp_one", "disable klp_one", "remove klp_one"]
    assert notes.steps == [(0, "running"), (0, "failed")]


@pytest.mark.parametrize("ending", TAKEN_BACK, ids=["canceled", "overdue"])
def test_what_was_about_to_be_taken_back_is(ending: JobError) -> None:
    fake = kernel(ONE, lasting=None)
    fake.load(b"klp_one", "klp_one")
    cancel = threading.Event()
    if isinstance(ending, CanceledError):
        cancel.set()
    with pytest.raises(type(ending)):
        sequence(fake, Notes(), lambda: POLICY, cancel).resume(APPLY_ONE, 0, taken_back(ending))
    assert fake.calls == ["load klp_one", "disable klp_one", "remove klp_one"]


def test_what_had_ended_before_it_was_taken_back_is_done() -> None:
    fake = kernel(ONE)
    fake.install(ONE)
    notes = Notes()
    sequence(fake, notes, lambda: POLICY).resume(APPLY_ONE, 0, taken_back(TAKEN_BACK[1]))
    assert fake.calls == []
    assert notes.steps == [(0, "running"), (0, "done")]
