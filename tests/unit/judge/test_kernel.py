# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel would refuse, as klpd foretells it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd.judge import kernel
from klpd.judge.rules import StateRule
from klpd.model import VMLINUX, Decision, Function, Leftover, Object, RuleKind, State
from tests.builders import allowing, installed, livepatch, policy, stack

if TYPE_CHECKING:
    from collections.abc import Iterable

    from klpd.model import Finding, Installed, Livepatch, Stack
    from tests.builders import States

ALLOW_ALL = policy()


def _codes(findings: Iterable[Finding]) -> list[str]:
    found = list(findings)
    assert all(each.decision is Decision.DENY and each.remedy for each in found)
    return [each.code for each in found]


def _on_load(where: Stack, wanted: Livepatch) -> list[str]:
    return _codes(kernel.load_findings(where, wanted, ALLOW_ALL))


# --- klp_is_patch_compatible ---

TWO = installed("two", {1: 2})


@pytest.mark.parametrize(
    ("present", "states", "replace", "codes"),
    [
        # what is there, what comes: the kernel's answer
        ([], {1: 1}, True, []),
        ([TWO], {1: 2}, True, []),
        ([TWO], {1: 3}, True, []),
        ([TWO], {1: 3, 2: 1}, True, []),
        ([TWO], {1: 1}, True, ["state-downgrade"]),
        ([TWO], {}, True, ["state-missing"]),
        ([TWO], {2: 9}, True, ["state-missing"]),
        ([TWO], {1: 2}, False, []),
        ([TWO], {1: 1}, False, ["state-downgrade"]),
        ([TWO], {}, False, []),
        ([TWO], {2: 9}, False, []),
        # one of which is not known whether it replaces is held to the stricter rule
        ([TWO], {}, None, ["state-missing"]),
        ([TWO], {1: 1}, None, ["state-downgrade"]),
        ([TWO], {1: 2}, None, []),
        # every installed livepatch counts, not just the newest
        ([installed("three", {1: 3}), installed("one", {1: 1})], {1: 2}, False, ["state-downgrade"]),
        ([TWO, installed("other", {5: 1})], {1: 2}, True, ["state-missing"]),
        ([TWO, installed("other", {1: 2})], {}, True, ["state-missing", "state-missing"]),
        # of duplicate ids the first of the new one counts, and all of the installed one
        ([TWO], (State(1, 2), State(1, 1)), True, []),
        ([TWO], (State(1, 1), State(1, 2)), True, ["state-downgrade"]),
        ([installed("twice", (State(1, 1), State(1, 4)))], {1: 3}, True, ["state-downgrade"]),
        # what is not known is for the policy to judge
        ([TWO], None, True, []),
        ([installed("unknown", None)], {}, True, []),
        ([installed("unknown", None), TWO], {}, True, ["state-missing"]),
        # version 0 is a version
        ([installed("zero", {1: 0})], {1: 0}, True, []),
        ([installed("zero", {1: 0})], {}, True, ["state-missing"]),
    ],
)
def test_the_rule_of_compatible_states(
    present: list[Installed], states: States, replace: bool | None, codes: list[str]
) -> None:
    findings = list(kernel.load_findings(stack(*present), livepatch(states=states, replace=replace), ALLOW_ALL))
    assert _codes(findings) == codes
    assert all(each.rule is kernel.COMPATIBLE and each.state is not None for each in findings)


def test_a_missing_state_is_told_with_who_has_it_and_in_which_version() -> None:
    [finding] = kernel.load_findings(stack(TWO), livepatch("new"), ALLOW_ALL)
    assert finding.message == "new replaces two but does not carry its state 0x1 version 2"
    assert finding.remedy == "load a cumulative livepatch that carries state 0x1, or disable two first"
    assert (finding.state, finding.rule) == (1, kernel.COMPATIBLE)


def test_a_downgrade_is_told_with_both_versions_and_the_name_that_the_site_gives_the_state() -> None:
    site = policy(StateRule(1, allowing().rule, name="console"))
    [finding] = kernel.load_findings(stack(TWO), livepatch("new", {1: 1}), site)
    assert finding.message == "new carries state 0x1 (console) version 1; two has installed version 2"
    assert str(finding).endswith("(kernel: klp_is_patch_compatible in kernel/livepatch/state.c)")


# --- Other obstacles to a load ---


@pytest.mark.parametrize(
    ("where", "code", "rule"),
    [
        (stack(installed("new")), "already-loaded", kernel.UNIQUE_NAME),
        (stack(leftovers=(Leftover("new", removable=True),)), "module-left-over", kernel.UNIQUE_NAME),
        (stack(leftovers=(Leftover("new", removable=False),)), "module-left-over", kernel.FORCED),
        (stack(installed("a", transition=True)), "transition-running", kernel.ONE_TRANSITION),
        (stack(installed("a", transition=True, enabled=False)), "transition-running", kernel.ONE_TRANSITION),
    ],
)
def test_what_else_keeps_a_livepatch_from_being_loaded(where: Stack, code: str, rule: object) -> None:
    [finding] = kernel.load_findings(where, livepatch("new"), ALLOW_ALL)
    assert _codes([finding]) == [code]
    assert finding.rule is rule


F, G = Function("f"), Function("g", 2)


@pytest.mark.parametrize(
    ("objects", "codes"),
    [
        ((Object(VMLINUX, (F, G)), Object("module", (F, G))), []),
        ((Object(VMLINUX, (F, Function("f", 2))),), []),
        ((Object(VMLINUX, (F, F)),), ["function-twice"]),
        ((Object(VMLINUX, (F, Function("f", 1))),), ["function-twice"]),
        ((Object(VMLINUX, (F, G, G, F)),), ["function-twice", "function-twice"]),
        ((Object(VMLINUX, (F,)), Object(VMLINUX, (G,))), ["object-twice"]),
        ((Object(VMLINUX, (Function(""),)),), ["function-unnamed"]),
        (None, []),
    ],
)
def test_what_the_kernel_would_make_two_entries_of_by_one_name_is_refused(
    objects: tuple[Object, ...] | None, codes: list[str]
) -> None:
    assert _on_load(stack(), replace(livepatch("new"), objects=objects)) == codes


def test_leftovers_of_other_names_are_no_obstacle() -> None:
    assert _on_load(stack(leftovers=(Leftover("old", removable=False),)), livepatch("new")) == []


def test_a_module_kept_for_good_leaves_nothing_but_a_reboot() -> None:
    [kept] = kernel.load_findings(stack(leftovers=(Leftover("new", removable=False),)), livepatch("new"), ALLOW_ALL)
    [left] = kernel.load_findings(stack(leftovers=(Leftover("new", removable=True),)), livepatch("new"), ALLOW_ALL)
    assert kept.remedy is not None
    assert kept.remedy.startswith("reboot")
    assert left.remedy == "use klpctl apply, which removes it first; or remove it by hand: klpctl remove new"


@pytest.mark.parametrize(
    ("release", "named"), [("6.1.0-other", "6.1.0-other"), ("", "(none named)"), ("6.1.0-test+", "6.1.0-test+")]
)
def test_a_livepatch_for_another_kernel_is_refused_by_klpd_itself(release: str, named: str) -> None:
    [finding] = kernel.load_findings(stack(), livepatch("new", release=release), ALLOW_ALL)
    assert finding.code == "other-kernel"
    assert finding.rule.kind is RuleKind.BUILTIN  # with CONFIG_MODVERSIONS the kernel would take it
    assert finding.message == f"new was built for kernel {named}; this is 6.1.0-test"


def test_all_obstacles_are_told_at_once() -> None:
    where = stack(TWO, installed("new", transition=True))
    assert _on_load(where, livepatch("new", {1: 1}, release="5.10.0")) == [
        "other-kernel",
        "already-loaded",
        "transition-running",
        "state-downgrade",
    ]


def test_during_a_transition_the_states_of_every_livepatch_in_the_list_still_count() -> None:
    where = stack(TWO, installed("going", {7: 1}, transition=True, enabled=False))
    assert _on_load(where, livepatch("new")) == ["transition-running", "state-missing", "state-missing"]


# --- Disabling, reversing, removing ---

RESTING = stack(
    installed("a"), installed("b"), leftovers=(Leftover("old", removable=True), Leftover("stuck", removable=False))
)
MOVING = stack(installed("a"), installed("b", transition=True), leftovers=RESTING.leftovers)


@pytest.mark.parametrize(
    ("where", "name", "codes"),
    [
        (RESTING, "a", []),
        (RESTING, "b", []),
        (RESTING, "old", ["not-installed"]),
        (RESTING, "nobody", ["not-installed"]),
        (MOVING, "a", ["transition-running"]),
        (MOVING, "b", ["transition-running"]),
        (MOVING, "nobody", ["not-installed"]),
    ],
)
def test_what_keeps_a_livepatch_from_being_disabled(where: Stack, name: str, codes: list[str]) -> None:
    assert _codes(kernel.disable_findings(where, name)) == codes


@pytest.mark.parametrize(
    ("where", "name", "codes"),
    [
        (MOVING, "b", []),
        (MOVING, "a", ["no-transition"]),
        (MOVING, "nobody", ["no-transition"]),
        (RESTING, "b", ["no-transition"]),
    ],
)
def test_what_keeps_a_transition_from_being_reversed(where: Stack, name: str, codes: list[str]) -> None:
    assert _codes(kernel.reverse_findings(where, name)) == codes


@pytest.mark.parametrize("where", [RESTING, MOVING])
@pytest.mark.parametrize(
    ("name", "codes"),
    [("old", []), ("stuck", ["kept-for-good"]), ("a", ["in-use"]), ("b", ["in-use"]), ("nobody", ["not-loaded"])],
)
def test_what_keeps_a_module_from_being_removed(where: Stack, name: str, codes: list[str]) -> None:
    assert _codes(kernel.remove_findings(where, name)) == codes
