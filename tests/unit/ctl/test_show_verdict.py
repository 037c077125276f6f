# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts and plans as people read them."""

from __future__ import annotations

from dataclasses import replace

from klpd.ctl.page import Page
from klpd.ctl.show_verdict import show_plan, show_verdict
from klpd.model import Admission, Decision, Finding, Outcome, Rule, RuleKind, Verdict
from klpd.report import PlanReport
from tests.unit.ctl.examples import APPROVED, NAMES, OPEN, PLAN, REFUSED_PLAN, STICKY, VETOED, assessed, text_of


def test_an_approval_tells_the_change_of_each_state_and_what_let_the_livepatch_in() -> None:
    assert text_of(show_verdict(APPROVED, Page(), NAMES)) == (
        "id      name              installed  new  change   allowed by / refused by\n"
        "0x1001  console_loglevel  2          3    upgrade  "
        "allowed by kernel: klp_is_patch_compatible in kernel/livepatch/state.c\n"
        "\n"
        "allowed: no rule names klp_v3, and such livepatches are allowed\n"
        "  rule:   /etc/klpd/policy.d/50-site.toml:2\n"
        "klp_v3: approved"
    )


def test_a_veto_tells_what_is_wrong_which_rule_says_so_and_what_would_help() -> None:
    assert text_of(show_verdict(VETOED, Page(), NAMES)) == (
        "id      name              installed  new  change     allowed by / refused by\n"
        "0x1001  console_loglevel  2          1    downgrade  "
        "refused by kernel: klp_is_patch_compatible in kernel/livepatch/state.c\n"
        "\n"
        "refused: klp_v1 carries state 0x1001 (console_loglevel) version 1; klp_v2 has installed version 2\n"
        "  rule:   kernel: klp_is_patch_compatible in kernel/livepatch/state.c\n"
        "  remedy: load one with version 2 or later; to go back, unpatch first: klpctl revert\n"
        "klp_v1: vetoed"
    )


def test_a_veto_of_the_site_names_policy_file_and_line() -> None:
    text = text_of(show_verdict(STICKY, Page(), NAMES))
    assert "2          -    drop    refused by /etc/klpd/policy.d/50-site.toml:7" in text
    assert "  rule:   /etc/klpd/policy.d/50-site.toml:7\n" in text


def test_a_verdict_that_lacks_facts_tells_which() -> None:
    text = text_of(show_verdict(OPEN, Page(), NAMES))
    assert "cannot tell: the states of kpatch_1 are in kernel memory, which could not be read" in text
    assert text.endswith("klp_v1: cannot tell")


def test_a_state_without_a_name_has_a_dash() -> None:
    assert "0x1001  -     2" in text_of(show_verdict(APPROVED, Page(), {}))


def test_rules_fit_on_a_terminal_of_80_columns() -> None:
    page = Page(width=80)
    assert all(len(line) <= 80 for line in text_of(show_verdict(VETOED, page, NAMES), page).splitlines())


def test_what_a_loader_and_apply_get_is_not_told_twice_where_the_verdict_says_it() -> None:
    for verdict in (APPROVED, VETOED, STICKY, OPEN):
        assert text_of(show_verdict(assessed(verdict), Page(), NAMES)) == text_of(show_verdict(verdict, Page(), NAMES))


def test_what_a_loader_or_apply_gets_beside_the_verdict_is_told_before_it_with_the_reason() -> None:
    refused = Admission(Outcome.REFUSED, (finding("lp.ko lies elsewhere", Decision.DENY, "move it"),))
    assert text_of(show_verdict(assessed(APPROVED, insmod=refused), Page(), NAMES)).splitlines()[-5:] == [
        "insmod: refused",
        "  lp.ko lies elsewhere",
        "  remedy: move it",
        "klpctl apply: approved",
        "klp_v3: approved",
    ]


def test_in_audit_mode_a_veto_says_that_the_livepatch_is_let_in_all_the_same() -> None:
    let_in = Admission(Outcome.LET_IN, (finding("in audit mode it is let in and recorded"),))
    assert text_of(show_verdict(assessed(VETOED, let_in, let_in), Page(), NAMES)).splitlines()[-5:] == [
        "insmod: let in all the same",
        "  in audit mode it is let in and recorded",
        "klpctl apply: let in all the same",
        "  in audit mode it is let in and recorded",
        "klp_v1: vetoed",
    ]


def finding(message: str, decision: Decision = Decision.ALLOW, remedy: str | None = None) -> Finding:
    return Finding(decision, "a-code", Rule(RuleKind.BUILTIN, "a rule"), message, remedy)


def test_a_plan_that_audit_mode_lets_happen_says_so() -> None:
    text = text_of(show_plan(replace(REFUSED_PLAN, outcome=Outcome.LET_IN), Page(), NAMES))
    assert text.splitlines()[-1] == (
        "  audit mode: klpd refuses nothing: all this would be done all the same, and recorded"
    )
    assert "audit mode" not in text_of(show_plan(replace(REFUSED_PLAN, outcome=Outcome.REFUSED), Page(), NAMES))


def test_a_plan_lists_its_steps_with_the_changes_they_make() -> None:
    assert text_of(show_plan(PLAN, Page(), NAMES)) == (
        "apply klp_v3\n"
        "  1. load klp_v3: approved\n"
        "     id      name              installed  new  change   allowed by / refused by\n"
        "     0x1001  console_loglevel  2          3    upgrade  "
        "allowed by kernel: klp_is_patch_compatible in kernel/livepatch/state.c\n"
        "  2. remove klp_v2: approved"
    )


def test_a_plan_that_is_refused_tells_why_and_warns_of_the_gap() -> None:
    text = text_of(show_plan(REFUSED_PLAN, Page(), NAMES))
    assert "  1. disable klp_v2: vetoed\n" in text
    assert "       rule:   /etc/klpd/policy.d/50-site.toml:7\n" in text
    assert text.splitlines()[-1].startswith("  gap: in between, none of the livepatches")


def test_a_plan_without_steps_says_that_there_is_nothing_to_do() -> None:
    plan = PlanReport("apply klp_v3", Decision.ALLOW, ())
    assert text_of(show_plan(plan, Page(), NAMES)) == "apply klp_v3\n  nothing to do: it is so already"


def _noted(decision: Decision) -> Verdict:
    rule = Rule(RuleKind.BUILTIN, "somewhere")
    note = Finding(Decision.ALLOW, "waits-for-module", rule, "it takes effect in nf_tables when that module comes")
    return Verdict("load", "lp", decision, findings=(Finding(decision, "default", rule, "so it is"), note))


def test_what_comes_of_a_livepatch_is_noted_beside_what_let_it_in() -> None:
    assert text_of(show_verdict(_noted(Decision.ALLOW), Page(), NAMES)) == (
        "allowed: so it is\n"
        "  rule:   built-in: somewhere\n"
        "note: it takes effect in nf_tables when that module comes\n"
        "lp: approved"
    )
    plan = PlanReport("apply lp", Decision.ALLOW, (_noted(Decision.ALLOW),))
    assert "     note: it takes effect in nf_tables" in text_of(show_plan(plan, Page(), NAMES))


def test_nothing_comes_of_one_that_is_refused() -> None:
    assert "note:" not in text_of(show_verdict(_noted(Decision.DENY), Page(), NAMES))
