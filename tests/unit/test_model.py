# SPDX-License-Identifier: GPL-2.0-or-later
"""The model: what an action makes of a stack, which states are in force, and what changes between two sets of them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from klpd.model import (
    VMLINUX,
    Callback,
    ChangeKind,
    Decision,
    Disable,
    Finding,
    Force,
    Function,
    Installed,
    InstalledObject,
    Leftover,
    Load,
    Object,
    Remove,
    Reverse,
    Rule,
    RuleKind,
    Stack,
    State,
    StateChange,
    StatesSource,
    Verdict,
    changes,
    target,
)
from tests.builders import RELEASE, installed, leftover_names, livepatch, names, stack

if TYPE_CHECKING:
    from klpd.model import Action

# --- A livepatch ---


@pytest.mark.parametrize(
    ("vermagic", "release"),
    [
        ("6.1.0-56-amd64 SMP preempt mod_unload modversions ", "6.1.0-56-amd64"),
        ("6.1.0-56-amd64", "6.1.0-56-amd64"),
        ("", ""),
    ],
)
def test_a_livepatch_is_for_the_kernel_release_that_its_vermagic_begins_with(vermagic: str, release: str) -> None:
    assert dataclasses.replace(livepatch(), vermagic=vermagic).kernel_release == release


@pytest.mark.parametrize(
    "action", [Load(livepatch("klp_a")), Disable("klp_a"), Reverse("klp_a"), Force("klp_a"), Remove("klp_a")], ids=repr
)
def test_every_action_has_the_name_of_its_livepatch_as_target(action: Action) -> None:
    assert target(action) == "klp_a"


def test_a_loaded_livepatch_is_expected_to_be_what_its_file_says() -> None:
    functions = (Function("vfs_read", 2),)
    file = dataclasses.replace(livepatch("klp_a", {1: 2}), objects=(Object("ext4", functions),))
    assert Installed.expected(file) == Installed(
        name="klp_a",
        enabled=True,
        transition=False,
        replace=True,
        forced=False,
        states=(State(1, 2),),
        states_source=StatesSource.FILE,
        objects=(InstalledObject("ext4", functions, patched=None),),
        build_id=file.build_id,
        digest=file.digest,
        restores=False,
    )


def test_unknown_states_are_known_from_nowhere() -> None:
    expected = Installed.expected(livepatch("klp_a", None))
    assert (expected.states, expected.states_source) == (None, StatesSource.NOWHERE)


@pytest.mark.parametrize(
    ("objects", "restores"),
    [
        (None, None),
        ((), False),
        ((Object(VMLINUX, ()),), False),
        ((Object(VMLINUX, (), (Callback.POST_PATCH, Callback.PRE_UNPATCH)),), False),
        ((Object(VMLINUX, ()), Object("ext4", (), (Callback.POST_UNPATCH,))), True),
    ],
    ids=["no objects known", "none", "no callbacks", "other callbacks", "of one object"],
)
def test_a_livepatch_can_restore_what_was_before_it_in_a_post_unpatch_callback(
    objects: tuple[Object, ...] | None, restores: bool | None
) -> None:
    file = dataclasses.replace(livepatch(), objects=objects)
    assert file.restores is restores
    assert Installed.expected(file).restores is restores


# --- The states in force ---


@pytest.mark.parametrize(
    ("livepatches", "states"),
    [
        ((), {}),
        ((installed("a", {1: 2, 3: 4}),), {1: 2, 3: 4}),
        ((installed("a", {1: 2}), installed("b", {3: 4})), {1: 2, 3: 4}),
        ((installed("a", {1: 2}), installed("b", {1: 3})), {1: 3}),
        ((installed("a", {1: 3}), installed("b", {1: 2})), {1: 2}),
        ((installed("a", (State(1, 2), State(1, 9))),), {1: 2}),
        ((installed("a", {1: 2}), installed("b", None)), {1: 2}),
    ],
    ids=[
        "none",
        "of one livepatch",
        "of several livepatches",
        "the newest livepatch counts",
        "the newest counts even if its version is lower",
        "the first of a duplicate id counts, as in klp_get_state",
        "unknown states add nothing",
    ],
)
def test_the_states_in_force(livepatches: tuple[Installed, ...], states: dict[int, int]) -> None:
    assert stack(*livepatches).states == states


def test_livepatches_with_unknown_states_are_named() -> None:
    assert stack(installed("a", None), installed("b", ()), installed("c", None)).unknown == ("a", "c")


def test_the_carrier_of_a_state_is_the_newest_livepatch_that_has_it() -> None:
    where = stack(installed("a", {1: 1, 2: 1}), installed("b", {1: 1}), installed("c", None))
    assert [where.carrier(each) for each in (1, 2, 3)] == ["b", "a", None]


def test_a_stack_finds_livepatches_and_leftovers_by_name() -> None:
    a, old = installed("a"), Leftover("old", removable=True)
    where = stack(a, leftovers=(old,))
    assert (where.find("a"), where.find("old")) == (a, None)
    assert (where.leftover("old"), where.leftover("a")) == (old, None)


@pytest.mark.parametrize(
    ("meant", "named"),
    [
        ("klp_a_b", "klp_a_b"),
        ("klp-a-b", "klp_a_b"),
        ("old-one", "old_one"),
        ("x-y", "x-y"),
        ("x_y", "x_y"),
        ("z", None),
    ],
)
def test_dashes_and_underlines_are_the_same_where_nothing_has_the_very_name(meant: str, named: str | None) -> None:
    where = stack(
        installed("klp_a_b"), installed("x_y"), installed("x-y"), leftovers=(Leftover("old_one", removable=True),)
    )
    assert where.named(meant) == named


# --- Transitions ---


def test_a_stack_at_rest_has_no_transition_and_is_its_own_end_and_origin() -> None:
    where = stack(installed("a"), installed("b"))
    assert where.transition is None
    assert where.settled is where
    assert where.origin is where


_MOVING = {
    # what is being done: (the stack meanwhile, its settled livepatches and leftovers, its origin's)
    "loading": (
        stack(installed("a"), installed("b", transition=True)),
        (["a", "b"], []),
        (["a"], ["b"]),
    ),
    "loading one that replaces": (
        stack(installed("a"), installed("b", replace=True, transition=True)),
        (["b"], ["a"]),
        (["a"], ["b"]),
    ),
    "loading one that replaces for all we know": (
        stack(installed("a"), installed("b", replace=None, transition=True)),
        (["b"], ["a"]),
        (["a"], ["b"]),
    ),
    "disabling the newest": (
        stack(installed("a"), installed("b", transition=True, enabled=False)),
        (["a"], ["b"]),
        (["a", "b"], []),
    ),
    "disabling the oldest": (
        stack(installed("a", replace=True, transition=True, enabled=False), installed("b")),
        (["b"], ["a"]),
        (["a", "b"], []),
    ),
    "taking back the disabling of the oldest": (
        stack(installed("a", replace=True, transition=True), installed("b")),
        (["a", "b"], []),
        (["b"], ["a"]),
    ),
    "taking back the load of one that replaces": (
        stack(installed("a"), installed("b", replace=True, transition=True, enabled=False)),
        (["a"], ["b"]),
        (["b"], ["a"]),
    ),
    "taking back the load of one that replaces for all we know": (
        stack(installed("a"), installed("b", replace=None, transition=True, enabled=False)),
        (["a"], ["b"]),
        (["b"], ["a"]),
    ),
}


@pytest.mark.parametrize(("during", "end", "_origin"), _MOVING.values(), ids=_MOVING)
def test_where_a_transition_ends(during: Stack, end: tuple[list[str], list[str]], _origin: object) -> None:
    assert (names(during.settled), leftover_names(during.settled)) == end
    assert all(each.enabled and not each.transition for each in during.settled.livepatches)


@pytest.mark.parametrize(("during", "_end", "origin"), _MOVING.values(), ids=_MOVING)
def test_where_reversing_a_transition_leads(during: Stack, _end: object, origin: tuple[list[str], list[str]]) -> None:
    assert (names(during.origin), leftover_names(during.origin)) == origin
    assert all(each.enabled and not each.transition for each in during.origin.livepatches)
    assert during.after(Reverse("whatever moves")) == during.origin


# --- Actions ---


@pytest.mark.parametrize(
    ("replace", "livepatches", "leftovers"),
    [(False, ["a", "b", "new"], []), (True, ["new"], ["a", "b"]), (None, ["new"], ["a", "b"])],
)
def test_a_load_comes_on_top_and_puts_the_others_out_unless_it_surely_does_not_replace(
    replace: bool | None, livepatches: list[str], leftovers: list[str]
) -> None:
    after = stack(installed("a"), installed("b")).after(Load(livepatch("new", replace=replace)))
    assert (names(after), leftover_names(after)) == (livepatches, leftovers)


def test_a_module_that_comes_back_is_no_leftover_any_more() -> None:
    before = stack(leftovers=(Leftover("a", removable=True), Leftover("b", removable=True)))
    after = before.after(Load(livepatch("a")))
    assert (names(after), leftover_names(after)) == (["a"], ["b"])


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_any_livepatch_of_the_stack_can_be_disabled_and_leaves_its_module_over(name: str) -> None:
    after = stack(installed("a"), installed("b"), installed("c")).after(Disable(name))
    assert names(after) == [each for each in ("a", "b", "c") if each != name]
    assert after.leftovers == (Leftover(name, removable=True, build_id=livepatch(name, replace=False).build_id),)


def test_a_forced_livepatch_leaves_its_module_behind_for_good() -> None:
    before = stack(installed("a", forced=True), installed("b"))
    for action in (Disable("a"), Load(livepatch("new"))):
        left = before.after(action).leftover("a")
        assert left is not None
        assert not left.removable


@pytest.mark.parametrize(
    ("moving", "kept"),
    [
        (installed("new", replace=True, transition=True), ["a", "b"]),
        (installed("new", replace=False, transition=True), []),
        (installed("new", replace=True, transition=True, enabled=False), ["new"]),
    ],
    ids=["replacing", "adding", "disabling"],
)
def test_forcing_ends_the_transition_and_keeps_the_modules_of_what_it_takes_out(
    moving: Installed, kept: list[str]
) -> None:
    before = stack(installed("a"), installed("b"), moving)
    after = before.after(Force("new"))
    assert names(after) == names(before.settled)
    assert [each.name for each in after.leftovers if not each.removable] == kept


def test_removing_takes_a_leftover_off_and_nothing_else() -> None:
    before = stack(installed("a"), leftovers=(Leftover("x", removable=True), Leftover("y", removable=True)))
    after = before.after(Remove("x"))
    assert (after.livepatches, leftover_names(after)) == (before.livepatches, ["y"])
    assert before.after(Remove("a")) == before


def test_an_action_changes_nothing_else_of_the_stack() -> None:
    before = Stack((installed("a"),), kernel_release=RELEASE, readable=False, generation=7)
    for action in (Load(livepatch("b")), Disable("a"), Reverse("a"), Force("a"), Remove("a")):
        after = before.after(action)
        assert (after.kernel_release, after.readable, after.generation) == (RELEASE, False, 7)


# --- Changes ---


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (None, 1, ChangeKind.INTRODUCE),
        (None, 0, ChangeKind.INTRODUCE),
        (1, 1, ChangeKind.KEEP),
        (0, 0, ChangeKind.KEEP),
        (1, 2, ChangeKind.UPGRADE),
        (0, 1, ChangeKind.UPGRADE),
        (2, 1, ChangeKind.DOWNGRADE),
        (1, 0, ChangeKind.DOWNGRADE),
        (1, None, ChangeKind.DROP),
        (0, None, ChangeKind.DROP),
    ],
)
def test_what_becomes_of_a_state(before: int | None, after: int | None, kind: ChangeKind) -> None:
    assert StateChange(1, before, after).kind is kind


def test_changes_name_every_state_of_either_side_in_the_order_of_the_ids() -> None:
    assert changes({9: 1, 2: 5, 4: 4}, {4: 4, 2: 3, 7: 1}) == (
        StateChange(2, 5, 3),
        StateChange(4, 4, 4),
        StateChange(7, None, 1),
        StateChange(9, 1, None),
    )


# --- Verdicts ---

_POLICY_RULE = Rule(RuleKind.POLICY, "/etc/klpd/policy.d/50-site.toml", 7)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (_POLICY_RULE, "/etc/klpd/policy.d/50-site.toml:7"),
        (Rule(RuleKind.POLICY, "/etc/klpd/policy.d/50-site.toml"), "/etc/klpd/policy.d/50-site.toml"),
        (
            Rule(RuleKind.KERNEL, "delete_module in kernel/module/main.c"),
            "kernel: delete_module in kernel/module/main.c",
        ),
        (Rule(RuleKind.BUILTIN, "no rule objects"), "built-in: no rule objects"),
    ],
)
def test_a_rule_says_where_it_stands(rule: Rule, text: str) -> None:
    assert str(rule) == text
    assert str(Finding(Decision.DENY, "code", rule, "it is so")) == f"it is so ({text})"


def _finding(decision: Decision, state: int | None = None) -> Finding:
    return Finding(decision, "code", _POLICY_RULE, f"{decision} {state}", state=state)


@pytest.mark.parametrize("decision", Decision)
def test_the_reasons_of_a_verdict_are_the_findings_that_decide_as_it_does(decision: Decision) -> None:
    findings = tuple(_finding(each) for each in Decision)
    assert Verdict("load", "a", decision, findings=findings).reasons == (_finding(decision),)


def test_the_findings_about_a_state_begin_with_those_that_deny() -> None:
    findings = (
        _finding(Decision.ALLOW, 1),
        _finding(Decision.UNKNOWN, 1),
        _finding(Decision.DENY, 2),
        _finding(Decision.DENY, 1),
        _finding(Decision.DENY),
    )
    about = Verdict("load", "a", Decision.DENY, findings=findings).about(1)
    assert [each.decision for each in about] == [Decision.DENY, Decision.UNKNOWN, Decision.ALLOW]
