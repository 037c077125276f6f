# SPDX-License-Identifier: GPL-2.0-or-later
"""The status as people read it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from klpd.ctl.page import Page
from klpd.ctl.show_stack import list_stack, show_stack
from klpd.ctl.show_status import show_status
from klpd.model import (
    Decision,
    Declaration,
    Drift,
    Finding,
    Installed,
    InstalledObject,
    Rule,
    RuleKind,
    Stack,
    State,
    Verdict,
)
from klpd.report import JobState, StepState
from tests.builders import declares
from tests.unit.ctl.examples import NAMES, STATUS, job, text_of


def test_the_status_shows_policy_defences_stack_and_what_is_left_over() -> None:
    assert text_of(show_status(STATUS, Page(), NAMES)) == (
        "klpd 0.1.0, enforce mode\n"
        "policy: default deny, unknown states deny; from /etc/klpd/policy.d/50-site.toml\n"
        "\n"
        "Lines of defence\n"
        "  hold       up        /lib/modules/6.1.0-13-amd64\n"
        "  guard      down      bpf is not in /sys/kernel/security/lsm\n"
        "  reconcile  degraded  kernel memory cannot be read\n"
        "\n"
        "Livepatches in kernel 6.1.0-13-amd64\n"
        "  #  livepatch  states                              replace  is        verified  functions   "
        "                         sha256\n"
        "  1  klp_v2     0x1001:2 (console_loglevel), 0x2:1  yes      enabled   no        vmlinux 2, "
        "nf_tables 1 (not loaded)  222222222222\n"
        "  2  kpatch_1   unknown                             unknown  patching  unknown   -           "
        "                         -\n"
        "  left over: klp_v1, no longer in force; klpctl remove klp_v1 removes its module\n"
        "  left over: klp_v0, no longer in force; its module is in use, or kept until the next boot"
    )


def test_a_state_that_is_but_declared_is_told_as_such() -> None:
    kpatch = replace(
        Installed("kpatch_1", states=(State(0x2, 1),)), declared=declares({0x2: 1, 0x1001: 2}, file="/m.toml")
    )
    text = text_of(show_stack(Stack((kpatch,)), Page(), NAMES))
    assert " 0x2:1, 0x1001:2 (console_loglevel, declared: manifest) " in text


@pytest.mark.parametrize(
    ("states", "told"), [((State(0x2, 1),), "0x2:1, maybe more"), ((), "unknown"), (None, "unknown")]
)
def test_where_more_may_be_declared_that_is_told_with_the_reason(states: tuple[State, ...] | None, told: str) -> None:
    unreadable = Installed(
        "kpatch_1", states=states, replace=True, declared=Declaration(unreadable="it may not be read")
    )
    unreadable = replace(unreadable, kernel_verified=True)
    text = text_of(show_stack(Stack((unreadable, replace(unreadable, name="kpatch_2"))), Page(), NAMES))
    assert text.count(f"  {told}  ") == 2
    assert text.count("more may be declared: it may not be read") == 1


def test_the_sites_manifests_are_counted() -> None:
    for count, told in ((1, "; 1 manifest"), (2, "; 2 manifests")):
        policy = replace(STATUS.policy, manifests=count)
        assert text_of(show_status(replace(STATUS, policy=policy), Page(), NAMES)).splitlines()[1].endswith(told)


def test_policy_errors_come_before_everything_else_and_say_what_holds_instead() -> None:
    policy = replace(STATUS.policy, errors=("/etc/klpd/policy.d/50-site.toml:3:1: no such key",))
    head = text_of(show_status(replace(STATUS, policy=policy), Page(), NAMES)).splitlines()[1:3]
    assert head == [
        "policy error: /etc/klpd/policy.d/50-site.toml:3:1: no such key",
        "the last good policy stays in force",
    ]


def test_the_builtin_policy_is_named_as_such() -> None:
    policy = replace(STATUS.policy, errors=("broken",), builtin=True, files=())
    text = text_of(show_status(replace(STATUS, policy=policy), Page(), NAMES))
    assert "no policy was taken: the built-in one holds, which lets no livepatch in" in text


def test_audit_mode_is_said_to_refuse_nothing() -> None:
    policy = replace(STATUS.policy, mode="audit")
    first = text_of(show_status(replace(STATUS, policy=policy), Page(), NAMES)).splitlines()[0]
    assert first == "klpd 0.1.0, audit mode: it judges and records, and refuses nothing"


def test_drift_is_shown_with_the_rule_that_it_goes_against() -> None:
    rule = Rule(RuleKind.POLICY, "/etc/klpd/policy.d/50-site.toml", 4)
    finding = Finding(Decision.DENY, "default", rule, "no rule names klp_v2")
    drift = Drift("klp_v2", Verdict("keep", "klp_v2", Decision.DENY, (), (finding,)))
    text = text_of(show_status(replace(STATUS, drift=(drift,)), Page(), NAMES))
    assert "drift: klp_v2 was not approved: no rule names klp_v2 (/etc/klpd/policy.d/50-site.toml:4)" in text


def test_jobs_are_shown_until_they_have_ended() -> None:
    running = job(JobState.RUNNING, StepState.RUNNING, progress=0.87)
    text = text_of(show_status(replace(STATUS, jobs=(running,)), Page(), NAMES))
    assert text.endswith(
        "Jobs\n"
        "  id  kind   goal          is       who   progress\n"
        "  7   apply  apply klp_v3  running  klpd  0 of 1 step"
    )
    ended = replace(STATUS, jobs=(job(JobState.DONE),))
    assert "Jobs" not in text_of(show_status(ended, Page(), NAMES))


@pytest.mark.parametrize(
    ("installed", "word"),
    [
        (Installed("lp"), "enabled"),
        (Installed("lp", forced=True), "enabled, forced"),
        (Installed("lp", transition=True), "patching"),
        (Installed("lp", enabled=False, transition=True), "unpatching"),
        (Installed("lp", enabled=False), "disabled"),
    ],
)
def test_how_a_livepatch_is(installed: Installed, word: str) -> None:
    text = text_of(show_stack(Stack((installed,)), Page(), NAMES))
    assert f"  {word}  " in text


def test_an_empty_stack_is_none() -> None:
    text = text_of(show_stack(Stack(kernel_release="6.1.0"), Page(), NAMES))
    assert text == "Livepatches in kernel 6.1.0\n  none"


def test_states_that_only_root_could_have_read_are_explained() -> None:
    text = text_of(show_stack(Stack((Installed("lp"),), readable=False), Page(), NAMES))
    assert "kernel memory could not be read" in text


def test_no_name_of_a_livepatch_reaches_the_terminal_as_it_is() -> None:
    assert "\x1b" not in text_of(show_stack(Stack((Installed("\x1b]0;x\x07"),)), Page(), NAMES))


@pytest.mark.parametrize(
    ("patched", "listed", "shown"),
    [
        (True, "enabled  ", "vmlinux 0  "),
        (None, "enabled  ", "vmlinux 0  "),
        (False, "enabled, never patches vmlinux  ", "vmlinux 0 (never patched: a module of that name does not come)"),
    ],
)
def test_what_never_patches_the_kernel_is_told(patched: bool | None, listed: str, shown: str) -> None:
    stack = Stack((Installed("lp", objects=(InstalledObject("vmlinux", (), patched),)),))
    assert listed in text_of(list_stack(stack, Page(), NAMES))
    assert shown in text_of(show_stack(stack, Page(), NAMES))
