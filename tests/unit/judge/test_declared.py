# SPDX-License-Identifier: GPL-2.0-or-later
"""Declared states count as real ones, by klpd's word and not the kernel's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd.judge.declared import COMPATIBLE, contradicting
from klpd.judge.drift import find_drift
from klpd.judge.permissions import never_objects, permits, write_permissions
from klpd.judge.rules import Comparison, Manifest, StateRule, VersionRange, Way
from klpd.judge.verdict import judge
from klpd.model import (
    Decision,
    Declaration,
    DeclaredState,
    Disable,
    Load,
    Reverse,
    Rule,
    RuleKind,
    State,
    StatesSource,
)
from tests.builders import (
    MANIFEST,
    allowing,
    declares,
    denying,
    installed,
    livepatch,
    policy,
    stack,
    sticky,
)

if TYPE_CHECKING:
    from klpd.judge.rules import Policy
    from klpd.model import Finding, Verdict

OLD = "/usr/lib/klpd/livepatches.d/old.toml"
STRICT = policy(unknown_states=denying(3))


def denials(verdict: Verdict) -> list[Finding]:
    return [each for each in verdict.findings if each.decision is Decision.DENY]


def kpatch(name: str, declared: Declaration, *, replace: bool | None = None) -> Load:
    """Loading a livepatch whose file tells nothing."""
    return Load(livepatch(name, None, replace=replace, declared=declared))


# --- Known states ---


def test_declared_states_are_known_states() -> None:
    assert judge(stack(), kpatch("new", declares({1: 1})), STRICT).decision is Decision.ALLOW


def test_so_is_the_declaration_that_there_are_none() -> None:
    assert judge(stack(), kpatch("new", Declaration(())), STRICT).decision is Decision.ALLOW


def test_a_title_alone_tells_nothing_of_states() -> None:
    verdict = judge(stack(), kpatch("new", Declaration(title="a fix")), STRICT)
    assert [each.code for each in denials(verdict)] == ["unknown-states"]


def test_who_may_not_read_the_kernel_does_not_know_what_is_there_beside_declared_states() -> None:
    there = stack(installed("old", None, declared=declares({1: 1})), readable=False)
    assert judge(there, Disable("old"), policy()).decision is Decision.UNKNOWN


def test_a_version_that_the_site_does_not_accept_may_be_declared() -> None:
    site = policy(StateRule(1, denying(3).rule, versions=VersionRange(((Comparison.GREATER, 4),))))
    assert [each.code for each in denials(judge(stack(), kpatch("new", declares({1: 4})), site))] == ["state-version"]


# --- The kernel's rule ---


@pytest.mark.parametrize("real", [False, True], ids=["declared", "real"])
def test_a_lower_declared_version_is_refused_by_klpd_which_names_where_it_is_declared(real: bool) -> None:
    old = installed("old", {1: 2}) if real else installed("old", (), declared=declares({1: 2}, file=OLD))
    (denial,) = denials(judge(stack(old), kpatch("new", declares({1: 1})), policy()))
    assert (denial.code, denial.rule, denial.state) == ("state-downgrade", COMPATIBLE, 1)
    assert denial.message == (
        f"new carries state 0x1 version 1 (declared in {MANIFEST}:1); old has installed version 2"
        + ("" if real else f" (declared in {OLD}:1)")
    )
    assert "kernel" not in str(denial.rule.kind)


def test_a_real_state_that_is_lower_than_a_declared_one_is_klpds_affair_too() -> None:
    old = installed("old", (), declared=declares({1: 2}))
    (denial,) = denials(judge(stack(old), Load(livepatch("new", {1: 1})), policy()))
    assert (denial.code, denial.rule) == ("state-downgrade", COMPATIBLE)


@pytest.mark.parametrize(("replaces", "codes"), [(True, ["state-missing"]), (None, ["state-missing"]), (False, [])])
def test_a_declared_state_must_not_be_lost_by_replacing(replaces: bool | None, codes: list[str]) -> None:
    old = installed("old", (), declared=declares({1: 2}))
    found = denials(judge(stack(old), kpatch("new", declares({2: 1}), replace=replaces), policy()))
    assert [each.code for each in found] == codes
    assert all(each.rule == COMPATIBLE for each in found)


def test_what_the_kernel_would_refuse_although_it_is_declared_otherwise_is_refused_in_its_name() -> None:
    new = livepatch("new", (), declared=declares({1: 2}))
    (denial,) = denials(judge(stack(installed("old", {1: 1})), Load(new), policy()))
    assert (denial.code, denial.rule.kind) == ("state-missing", RuleKind.KERNEL)


def test_what_is_the_kernels_affair_is_said_once() -> None:
    new = livepatch("new", {1: 1}, declared=declares({1: 1}))
    (denial,) = denials(judge(stack(installed("old", {1: 2}, declared=declares({1: 2}))), Load(new), policy()))
    assert denial.rule.kind is RuleKind.KERNEL


def test_what_allows_a_declared_state_is_where_it_is_declared() -> None:
    (finding,) = judge(stack(), kpatch("new", declares({1: 1})), policy()).about(1)
    assert (finding.decision, str(finding.rule)) == (Decision.ALLOW, f"{MANIFEST}:1")
    assert finding.message.startswith("declared")


# --- Contradictions ---


def test_a_declaration_that_the_file_contradicts_is_refused_where_it_stands() -> None:
    verdict = judge(stack(), Load(livepatch("new", {1: 2}, declared=declares({1: 3}))), policy())
    (denial,) = denials(verdict)
    assert (denial.code, str(denial.rule)) == ("declaration-contradicted", f"{MANIFEST}:1")
    assert denial.message == "state 0x1 of new is declared in version 3, but it carries version 2"
    assert [(each.id, each.after) for each in verdict.changes] == [(1, 2)], "what is real wins"


def test_two_declarations_that_contradict_each_other_are_refused() -> None:
    both = declares({1: 2}, file=OLD) + declares({1: 3})
    (denial,) = denials(judge(stack(), kpatch("new", both), policy()))
    assert denial.message == f"state 0x1 of new is declared in version 3, but {OLD}:1 version 2"


def test_two_that_say_the_same_agree() -> None:
    both = declares({1: 2}, file=OLD) + declares({1: 2})
    assert judge(stack(), kpatch("new", both), policy()).decision is Decision.ALLOW


# --- The site's manifests ---


def manifest(**bound: str) -> Manifest:
    return Manifest(MANIFEST, declares({1: 2}, sticky=True), **bound)


def test_a_manifest_of_the_site_counts_for_what_is_loaded() -> None:
    new = livepatch("new", None)
    site = replace(STRICT, manifests=(manifest(sha256=new.digest),))
    verdict = judge(stack(), Load(new), site)
    assert verdict.decision is Decision.ALLOW
    assert [(each.id, each.after) for each in verdict.changes] == [(1, 2)]


def test_a_manifest_of_the_site_counts_for_what_is_in_force() -> None:
    old = installed("old", ())
    site = policy(manifests=(manifest(build_id=old.build_id or ""),))
    assert [each.code for each in denials(judge(stack(old), Disable("old"), site))] == ["declared-sticky"]
    (permissions,) = write_permissions(stack(old), site)
    assert not permits(permissions.enabled)


def test_what_it_declares_is_looked_at_where_nobody_approved_the_livepatch() -> None:
    old = installed("old", ())
    accepts = StateRule(1, denying(9).rule, versions=VersionRange(((Comparison.LESS, 2),)))
    site = policy(accepts, manifests=(manifest(build_id=old.build_id or ""),))
    assert [each.livepatch for each in find_drift(stack(old), lambda _livepatch: False, site)] == ["old"]


@pytest.mark.parametrize(
    ("digest", "build_id", "fits"),
    [
        ("aa", "11", True),
        ("bb", "11", False),
        ("aa", "22", False),
        (None, "11", True),
        (None, "22", False),
        (None, None, False),
    ],
)
def test_a_manifest_with_both_is_for_the_livepatch_that_has_both_as_far_as_is_known(
    digest: str | None, build_id: str | None, fits: bool
) -> None:
    there = replace(installed("old"), digest=digest, build_id=build_id)
    assert manifest(sha256="aa", build_id="11").is_for(there) is fits


def test_a_manifest_with_a_digest_alone_is_for_no_file_that_is_not_known() -> None:
    assert not manifest(sha256="aa").is_for(replace(installed("old"), digest=None))


# --- Stickiness ---

STICKY = stack(installed("old", (), declared=declares({1: 2}, sticky=True)))


def test_what_is_declared_sticky_is_not_disabled_and_the_manifest_is_the_reason() -> None:
    (denial,) = denials(judge(STICKY, Disable("old"), policy()))
    assert str(denial.rule) == f"{MANIFEST}:1"
    assert denial.message == "the action would take out state 0x1 version 2, which old is declared to make sticky"


def test_nor_is_its_transition_reversed() -> None:
    moving = stack(installed("old", (), transition=True, declared=declares({1: 2}, sticky=True)))
    assert [each.code for each in denials(judge(moving, Reverse("old"), policy()))] == ["declared-sticky"]


def test_a_real_state_can_be_declared_sticky() -> None:
    there = stack(installed("old", {1: 2}, declared=declares({1: 2}, sticky=True)))
    assert [each.code for each in denials(judge(there, Disable("old"), policy()))] == ["declared-sticky"]


@pytest.mark.parametrize(
    ("site", "decision"),
    [
        (policy(StateRule(1, allowing(7).rule, rulings={Way.DROP: allowing(7)})), Decision.ALLOW),
        (policy(StateRule(1, allowing(7).rule, rulings={Way.REVERSE: allowing(7)})), Decision.DENY),
        (policy(StateRule(2, allowing(7).rule, rulings={Way.DROP: allowing(7)})), Decision.DENY),
        (policy(StateRule(1, allowing(7).rule, name="named")), Decision.DENY),
        (policy(sticky(1, line=7)), Decision.DENY),
    ],
    ids=["drop is allowed by name", "only reversing is", "another state is", "no ruling", "the site says so, too"],
)
def test_a_policy_loosens_it_by_naming_it_only(site: Policy, decision: Decision) -> None:
    assert judge(STICKY, Disable("old"), site).decision is decision


def test_a_policy_makes_a_declared_state_sticky() -> None:
    there = stack(installed("old", (), declared=declares({1: 2})))
    (denial,) = denials(judge(there, Disable("old"), policy(sticky(1, line=7))))
    assert denial.rule.line == 7


@pytest.mark.parametrize(
    ("site", "declared", "never"),
    [
        (policy(), declares({1: 1}), True),
        (policy(), declares({1: 1}, sticky=True), False),
        (policy(StateRule(1, allowing().rule, rulings={Way.DROP: allowing()})), declares({1: 1}, sticky=True), False),
        (
            policy(StateRule(1, allowing().rule, rulings=dict.fromkeys(Way, allowing()))),
            declares({1: 1}, sticky=True),
            True,
        ),
    ],
    ids=["not sticky", "sticky", "loosened in part", "loosened"],
)
def test_nobody_may_write_unasked_while_something_sticky_may_come(
    site: Policy, declared: Declaration, never: bool
) -> None:
    assert never_objects(site, [declared]) is never
    assert never_objects(replace(site, manifests=(Manifest(MANIFEST, declared),))) is never


# --- Reversals ---


@pytest.mark.parametrize("callback", [True, False, None])
@pytest.mark.parametrize("declared", [True, False, None])
def test_what_is_declared_to_be_restored_counts_more_than_a_callback(
    declared: bool | None, callback: bool | None
) -> None:
    new = installed("new", (), transition=True, restores=callback, declared=declares({1: 2}, restores=declared))
    there = stack(installed("old", (), declared=declares({1: 1})), new)
    free = callback if declared is None else declared
    assert judge(there, Reverse("new"), policy()).decision is (Decision.ALLOW if free else Decision.DENY)


def test_a_livepatch_that_restores_one_state_does_not_restore_another() -> None:
    declared = declares({1: 2}, restores=True) + declares({2: 2}, restores=False)
    there = stack(
        installed("old", (), declared=declares({1: 1, 2: 1})),
        installed("new", (), transition=True, declared=declared),
    )
    (denial,) = denials(judge(there, Reverse("new"), policy()))
    assert (denial.code, denial.state) == ("not-restored", 2)
    assert "it is declared not to be able to restore that" in denial.message


# --- The model ---


def test_real_states_come_first_and_win() -> None:
    both = livepatch("new", {1: 2}, declared=declares({1: 3, 2: 1}))
    assert both.carried == (State(1, 2), State(2, 1))


def test_where_states_are_known_from() -> None:
    rule = Rule(RuleKind.DECLARED, "the modinfo of old")
    by_author = Declaration((DeclaredState(1, 1, rule, StatesSource.MODINFO),))
    assert installed("old", ()).carried_source is StatesSource.FILE
    assert installed("old", (), declared=by_author).carried_source is StatesSource.MODINFO
    assert installed("old", None, declared=declares({1: 1})).carried_source is StatesSource.MANIFEST
    assert installed("old", {2: 1}, declared=declares({1: 1})).carried_source is StatesSource.FILE
    assert installed("old", None).carried_source is StatesSource.NOWHERE


def test_what_is_declared_twice_counts_once() -> None:
    once = Declaration(declares({1: 1}).states, "a fix", ("CVE-2026-1000",), (MANIFEST,))
    assert once + once == once
    assert Declaration() + once == once
    assert (Declaration() + Declaration()).states is None
    assert (Declaration() + Declaration(())).states == ()


# --- What could not be read ---

HIDDEN = Declaration(unreadable="it may not be read")


def unknowns(verdict: Verdict) -> list[str | None]:
    return [each.livepatch for each in verdict.findings if each.code == "declarations-unreadable"]


@pytest.mark.parametrize("states", [None, (), {1: 1}])
def test_a_livepatch_of_which_more_may_be_declared_is_neither_allowed_nor_denied_for_it(
    states: dict[int, int] | None,
) -> None:
    verdict = judge(stack(), Load(livepatch("new", states, declared=HIDDEN)), STRICT)
    assert (verdict.decision, unknowns(verdict)) == (Decision.UNKNOWN, ["new"])


def test_a_declared_state_is_not_missing_from_what_may_declare_it() -> None:
    there = stack(installed("old", declared=declares({1: 1})))
    assert judge(there, Load(livepatch("new")), STRICT).decision is Decision.DENY
    assert judge(there, Load(livepatch("new", declared=HIDDEN)), STRICT).decision is Decision.UNKNOWN


@pytest.mark.parametrize(
    ("replaces", "states", "matters"), [(True, (), True), (None, (), True), (False, {2: 1}, True), (False, (), False)]
)
def test_what_may_be_declared_of_one_in_force_matters_to_what_may_lose_or_lower_it(
    replaces: bool | None, states: dict[int, int], matters: bool
) -> None:
    there = stack(installed("old", {}, declared=HIDDEN))
    verdict = judge(there, Load(livepatch("new", states, replace=replaces)), STRICT)
    assert (verdict.decision is Decision.UNKNOWN) is matters
    assert unknowns(verdict) == (["old"] if matters else [])


def test_one_of_which_more_may_be_declared_does_not_go_nor_what_it_may_make_sticky() -> None:
    hidden = stack(installed("old", {1: 1}), installed("hidden", {}, declared=HIDDEN))
    for name in ("hidden", "old"):
        verdict = judge(hidden, Disable(name), policy())
        assert (verdict.decision, unknowns(verdict)) == (Decision.UNKNOWN, ["hidden"])
    assert not any(permits(each.enabled) for each in write_permissions(hidden, policy()))
    assert not never_objects(policy(), [HIDDEN])


# --- Declared to have none ---

NOBODY = Declaration((), stateless=(Rule(RuleKind.DECLARED, OLD, 3),))


@pytest.mark.parametrize(
    ("load", "message"),
    [
        (Load(livepatch("new", {0x61: 1}, declared=NOBODY)), "it carries state 0x61 version 1"),
        (kpatch("new", NOBODY + declares({0x61: 2})), f"{MANIFEST}:1 declares state 0x61 version 2"),
        (kpatch("new", declares({0x61: 2}) + NOBODY), f"{MANIFEST}:1 declares state 0x61 version 2"),
    ],
)
def test_no_states_where_there_are_some_is_a_contradiction(load: Load, message: str) -> None:
    (denial,) = denials(judge(stack(), load, policy()))
    assert (denial.code, str(denial.rule)) == ("declaration-contradicted", f"{OLD}:3")
    assert denial.message == f"new is declared to change no state, but {message}"


def test_so_it_is_where_the_sites_manifests_say_one_and_the_other() -> None:
    new = livepatch("new", None)
    manifests = (Manifest(OLD, NOBODY, build_id=new.build_id), Manifest(MANIFEST, declares({1: 1}), sha256=new.digest))
    (denial,) = denials(judge(stack(), Load(new), policy(manifests=manifests)))
    assert denial.code == "declaration-contradicted"


def test_no_states_where_there_are_none_is_none() -> None:
    assert judge(stack(), Load(livepatch("new", (), declared=NOBODY)), STRICT).decision is Decision.ALLOW
    assert judge(stack(), kpatch("new", NOBODY + NOBODY), STRICT).decision is Decision.ALLOW


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (Manifest(OLD, NOBODY, build_id="ab"), Manifest(MANIFEST, declares({1: 1}), build_id="ab"), [f"{OLD}:3"]),
        (Manifest(OLD, declares({1: 2}, file=OLD), "1"), Manifest(MANIFEST, declares({1: 1}), "1"), [f"{MANIFEST}:1"]),
        (Manifest(OLD, declares({1: 1}, file=OLD), "1"), Manifest(MANIFEST, declares({1: 1}), "1"), []),
        (Manifest(OLD, NOBODY, "1", "ab"), Manifest(MANIFEST, declares({1: 1}), "2", "ab"), []),
        (Manifest(OLD, NOBODY, "1", "ab"), Manifest(MANIFEST, declares({1: 1}), None, "ab"), [f"{OLD}:3"]),
        (Manifest(OLD, NOBODY, "1"), Manifest(MANIFEST, declares({1: 1}), None, "ab"), []),
        (Manifest(OLD, NOBODY, "1", "ab"), Manifest(MANIFEST, declares({1: 1}), "1", "cd"), []),
        (Manifest(OLD, NOBODY, "1", "ab"), Manifest(MANIFEST, declares({1: 1}), "1"), [f"{OLD}:3"]),
    ],
)
def test_manifests_are_held_against_each_other_where_they_are_about_the_same_livepatch(
    one: Manifest, other: Manifest, told: list[str]
) -> None:
    assert [str(each.rule) for each in contradicting((one, other))] == told
