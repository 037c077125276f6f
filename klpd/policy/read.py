# SPDX-License-Identifier: GPL-2.0-or-later
"""The policy language: from files to the Policy that they make together (klpd-policy(5)).

Each file adds its word to the policy of the files before it, key by key.  All files are looked at to their ends, so
that everything that is wrong can be told at once.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klpd.errors import PolicyError
from klpd.judge.rules import (
    STICKY_WAYS,
    LivepatchRule,
    Match,
    Mode,
    OnDrift,
    OnTimeout,
    Permission,
    Policy,
    Ruling,
    StateRule,
    TransitionRules,
    Way,
)
from klpd.model import Rule, RuleKind
from klpd.policy.certificates import certificate_files
from klpd.policy.check import Table
from klpd.policy.convert import (
    boolean,
    choice,
    directory,
    duration,
    hexadecimal,
    list_of,
    module_glob,
    state_id,
    text,
    versions,
)
from klpd.policy.dropins import is_mask, list_files
from klpd.policy.manifest import read_manifests
from klpd.policy.trust import trusting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from klpd.policy.check import Entry

LONGEST_HOLD: Final = "60s"
_TRANSITION_TIME: Final = duration(longest="1w")
_TRANSITION_KEYS: Final = ("timeout", "on-timeout", "force")


def read_policy(root: Path = Path("/")) -> Policy:
    """The policy of the files in force below `root`, manifests included.

    Raises PolicyError, whose `others` are all further complaints.
    """
    manifests, wrong = read_manifests(root)
    try:
        policy = read_files(list_files(root))
    except PolicyError as error:
        raise PolicyError.of((error, *error.others, *wrong)) from error
    if wrong:
        raise PolicyError.of(wrong)
    return replace(policy, manifests=manifests)


def read_files(files: Iterable[Path]) -> Policy:
    """The policy that these files make in this order.  Raises PolicyError as `read_policy` does."""
    policy = _defaults()
    complaints: list[PolicyError] = []
    for file in files:
        policy, wrong = _read_file(policy, file)
        complaints += wrong
    if complaints:
        raise PolicyError.of(complaints)
    return policy


def check_file(path: Path) -> tuple[PolicyError, ...]:
    """All that is wrong with one file, whatever its name and wherever it is."""
    try:
        if not is_mask(path):
            read_files([path])
    except PolicyError as error:
        return (error, *error.others)
    return ()


def _defaults() -> Policy:
    return Policy(
        mode=Mode.ENFORCE,
        default=Ruling(Permission.DENY, Rule(RuleKind.BUILTIN, 'default = "deny"')),
        unknown_states=Ruling(Permission.DENY, Rule(RuleKind.BUILTIN, 'unknown-states = "deny"')),
    )


def _read_file(policy: Policy, path: Path) -> tuple[Policy, list[PolicyError]]:
    """What `policy` becomes with this file, and what is wrong with the file, by line."""
    from klpd.policy.source import read_source

    try:
        source = read_source(path)
    except PolicyError as error:
        return policy, [error]
    complaints: list[PolicyError] = []
    top = Table(source, complaints, source.values, RuleKind.POLICY)
    policy = _with_settings(policy, top.table("policy"))
    transition = top.table("transition")
    policy = _with_transition(policy, transition)
    policy = _with_states(policy, top.tables("state"))
    livepatches = tuple(top.tables("livepatch"))
    policy = replace(policy, livepatches=(*policy.livepatches, *_livepatches(livepatches)))
    _check_forcing(transition, livepatches)
    top.close()
    complaints.sort(key=lambda each: (each.line or 0, each.column or 0))
    return replace(policy, files=(*policy.files, source.file)), complaints


def _with_settings(policy: Policy, table: Table) -> Policy:
    default = table.take("default", choice(Permission))
    unknown_states = table.take("unknown-states", choice(Permission))
    gap = table.take("allow-unpatched-gap", choice(Permission))
    untrusted = table.take("untrusted", choice(Permission))
    certificates = table.take("trusted-certificates", list_of(certificate_files))
    policy = replace(
        policy,
        mode=table.get("mode", choice(Mode), policy.mode),
        default=policy.default if default is None else _ruling(default),
        unknown_states=policy.unknown_states if unknown_states is None else _ruling(unknown_states),
        unpatched_gap=policy.unpatched_gap if gap is None else _ruling(gap),
        on_drift=table.get("on-drift", choice(OnDrift), policy.on_drift),
        hold_timeout=table.get("hold-timeout", duration(longest=LONGEST_HOLD), policy.hold_timeout),
        directories=table.get("directories", list_of(directory), policy.directories),
        untrusted=policy.untrusted if untrusted is None else _ruling(untrusted),
        verify=policy.verify if certificates is None else trusting(certificates.value),
    )
    table.close()
    return policy


def _with_transition(policy: Policy, table: Table) -> Policy:
    general = policy.transition
    rules = TransitionRules(
        timeout=table.get("timeout", _TRANSITION_TIME, general.timeout),
        on_timeout=table.get("on-timeout", choice(OnTimeout), general.on_timeout),
        force=_force(table) or general.force,
    )
    table.close()
    return replace(policy, transition=rules)


def _force(table: Table) -> Ruling | None:
    entry = table.take("force", choice(Permission))
    return None if entry is None else _ruling(entry)


def _check_forcing(transition: Table, livepatches: tuple[Table, ...]) -> None:
    """Complain where a file asks for force after a timeout and does not let it happen.

    A later file may still deny it: that word counts, and is no mistake.
    """
    allowed = any(each.says("force", Permission.ALLOW) for each in (transition, *livepatches))
    for table in (transition, *livepatches):
        refused = not allowed or (table is not transition and table.says("force", Permission.DENY))
        if refused and table.says("on-timeout", OnTimeout.FORCE):
            table.complain('on-timeout: forcing is denied; this takes force = "allow" as well', "on-timeout")


def _with_states(policy: Policy, tables: Iterable[Table]) -> Policy:
    states = dict(policy.states)
    seen: dict[int, Rule] = {}
    for table in tables:
        given = table.require("id", state_id)
        rule = _state(table, 0 if given is None else given.value)
        if given is None:
            continue
        if given.value in seen:
            first = seen[given.value].line
            table.complain(f"state {given.value:#x} is given twice: the first is in line {first}", "id")
        else:
            seen[given.value] = given.rule
            states[rule.id] = _over(states.get(rule.id), rule)
    return replace(policy, states=states)


def _state(table: Table, number: int) -> StateRule:
    name = table.get("name", text, None)
    sticky = table.take("sticky", boolean)
    rulings: dict[Way, Ruling] = {}
    if sticky is not None:
        shorthand = Ruling(Permission.DENY if sticky.value else Permission.ALLOW, sticky.rule)
        rulings.update(dict.fromkeys(STICKY_WAYS, shorthand))
    for way in Way:
        said = table.take(way.value, choice(Permission))
        if said is not None:
            rulings[way] = _ruling(said)
    accepted = table.take("versions", versions)
    table.close()
    return StateRule(
        id=number,
        rule=table.rule,
        name=name,
        rulings=rulings,
        versions=None if accepted is None else accepted.value,
        versions_rule=None if accepted is None else accepted.rule,
    )


def _over(earlier: StateRule | None, later: StateRule) -> StateRule:
    """What two files say of a state: where both say something, the later."""
    if earlier is None:
        return later
    versioned = earlier if later.versions is None else later
    return replace(
        later,
        name=earlier.name if later.name is None else later.name,
        rulings={**earlier.rulings, **later.rulings},
        versions=versioned.versions,
        versions_rule=versioned.versions_rule,
    )


def _livepatches(tables: Iterable[Table]) -> Iterator[LivepatchRule]:
    for table in tables:
        match = _match(table)
        take_verdict = table.take if table.has(*_TRANSITION_KEYS) else table.require
        verdict = take_verdict("verdict", choice(Permission))
        rule = LivepatchRule(
            table.rule,
            match,
            permission=None if verdict is None else verdict.value,
            reason=table.get("reason", text, None),
            timeout=table.get("timeout", _TRANSITION_TIME, None),
            on_timeout=table.get("on-timeout", choice(OnTimeout), None),
            force=_force(table),
        )
        table.close()
        yield rule


def _match(table: Table) -> Match:
    conditions = table.table("match", required=True)
    match = Match(
        name=conditions.get("name", module_glob, None),
        sha256=conditions.get("sha256", hexadecimal(fewest=64, most=64), None),
        build_id=conditions.get("build-id", hexadecimal(fewest=2, most=128), None),
        replace=conditions.get("replace", boolean, None),
        signer=conditions.get("signer", text, None),
    )
    conditions.close()
    return match


def _ruling(entry: Entry[Permission]) -> Ruling:
    return Ruling(entry.value, entry.rule)
