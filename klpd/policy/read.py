# SPDX-License-Identifier: GPL-2.0-or-later
"""The policy language: from files to the Policy that they make together (klpd-policy(5)).

Each file adds its word to the policy of the files before it, key by key; its rules on livepatches are asked before
theirs.  All files are looked at to their ends, so that everything that is wrong can be told at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klpd.errors import PolicyError
from klpd.judge.precedence import denied_force, shadowed
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
from klpd.policy.check import PolicyWarning, Table
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
from klpd.policy.dropins import find_files, is_mask
from klpd.policy.manifest import read_manifests
from klpd.policy.ownership import ROOT
from klpd.policy.show import shown
from klpd.policy.trust import trusting

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from klpd.policy.check import Entry
    from klpd.policy.source import Source

LONGEST_HOLD: Final = "60s"
_HOLD_TIME: Final = duration(shortest="100ms", longest=LONGEST_HOLD)
"""What is shorter would refuse what takes its usual time."""
_NO_FORCE: Final = 'on-timeout: forcing is denied; this takes force = "allow" as well'
_TRANSITION_TIME: Final = duration(longest="1w")
_TRANSITION_KEYS: Final = ("timeout", "on-timeout", "force")


def read_policy(root: Path = Path("/"), *, owner: int | None = ROOT) -> Policy:
    """The policy of the files in force below `root`, manifests included.

    `owner`: whose all this has to be, as for klpd.policy.ownership.reach.

    Raises PolicyError, whose `others` are all further complaints.
    """
    found = find_files(root, owner=owner)
    manifests, wrong = read_manifests(root, owner=owner)
    examined = examine(found.files, owner=owner)
    complaints = (*found.complaints, *examined.complaints, *wrong)
    if complaints:
        raise PolicyError.of(complaints)
    return replace(examined.policy, manifests=manifests)


def read_files(files: Iterable[Path], *, owner: int | None = ROOT) -> Policy:
    """The policy that these files make in this order.  Raises PolicyError as `read_policy` does."""
    examined = examine(files, owner=owner)
    if examined.complaints:
        raise PolicyError.of(examined.complaints)
    return examined.policy


@dataclass(frozen=True, slots=True)
class Examined:
    """What files make together, all that is wrong with them, and what is right but of no use.

    `policy` is as far as it goes where there are complaints.  Complaints and warnings are in the order of the files.
    """

    policy: Policy
    complaints: tuple[PolicyError, ...]
    warnings: tuple[PolicyWarning, ...]


def examine(files: Iterable[Path], *, whole: bool = True, owner: int | None = ROOT) -> Examined:
    """Read files in this order, each to its end.  `whole`: there are no others that could allow what these ask for."""
    from klpd.policy.source import read_source

    reading = _Reading()
    for file in files:
        try:
            source = read_source(file, owner)
        except PolicyError as error:
            reading.complaints.append(error)
            continue
        reading.add(source, owner)
    reading.check_forcing(whole=whole)
    return Examined(
        reading.policy,
        tuple(reading.complaints),
        () if reading.complaints else (*reading.warnings, *_shadowed(reading.policy)),
    )


@dataclass(frozen=True, slots=True)
class Checked:
    """What is to be said of one file."""

    complaints: tuple[PolicyError, ...] = ()
    warnings: tuple[PolicyWarning, ...] = ()


def check_file(path: Path, *, owner: int | None = ROOT) -> Checked:
    """What is to be said of one file, whatever its name and wherever it is; others may allow what it asks for."""
    try:
        examined = examine([] if is_mask(path, owner) else [path], whole=False, owner=owner)
    except PolicyError as error:
        return Checked(error.all)
    return Checked(examined.complaints, examined.warnings)


def check_policy(root: Path = Path("/"), *, owner: int | None = ROOT) -> dict[str, Checked]:
    """What is to be said of the policy files in force below `root`, by file; also of directories that are no good."""
    found = find_files(root, owner=owner)
    examined = examine(found.files, owner=owner)
    complaints = (*found.complaints, *examined.complaints)
    files = dict.fromkeys([*(each.file for each in found.complaints), *(shown(each) for each in found.files)])
    return {
        file: Checked(
            tuple(each for each in complaints if each.file == file),
            tuple(each for each in examined.warnings if each.file == file),
        )
        for file in files
    }


def _shadowed(policy: Policy) -> Iterator[PolicyWarning]:
    for each in shadowed(policy):
        by = " and ".join(str(rule) for rule in each.by)
        verb = "is asked before it and matches" if len(each.by) == 1 else "are asked before it and match"
        yield PolicyWarning(
            f"this rule never decides anything: {by} {verb} whatever it matches", each.rule.place, each.rule.line
        )


def _defaults() -> Policy:
    return Policy(
        mode=Mode.ENFORCE,
        default=Ruling(Permission.DENY, Rule(RuleKind.BUILTIN, 'default = "deny"')),
        unknown_states=Ruling(Permission.DENY, Rule(RuleKind.BUILTIN, 'unknown-states = "deny"')),
    )


class _Reading:
    """What has been read so far: the policy that it makes, and what there is to say of it."""

    def __init__(self) -> None:
        self.policy = _defaults()
        self.complaints: list[PolicyError] = []
        self.warnings: list[PolicyWarning] = []
        self._transition: tuple[Match, PolicyWarning] | None = None
        self._forcing: list[tuple[Match, PolicyWarning]] = []

    def add(self, source: Source, owner: int | None) -> None:
        """Add the word of one more file, and what is wrong with it, by line."""
        complaints: list[PolicyError] = []
        top = Table(source, complaints, source.values, RuleKind.POLICY)
        policy = _with_settings(self.policy, top.table("policy"), owner)
        transition = top.table("transition")
        policy = _with_transition(policy, transition)
        if transition.has("on-timeout"):
            forces = policy.transition.on_timeout is OnTimeout.FORCE
            self._transition = (Match(), transition.remark(_NO_FORCE, "on-timeout")) if forces else None
        policy = _with_states(policy, top.tables("state"))
        rules: list[LivepatchRule] = []
        for table in top.tables("livepatch"):
            rule = _livepatch(table)
            rules.append(rule)
            if rule.on_timeout is OnTimeout.FORCE:
                self._forcing.append((rule.match, table.remark(_NO_FORCE, "on-timeout")))
        # The site's files come last, and are asked first.
        policy = replace(policy, livepatches=(*rules, *policy.livepatches))
        top.close()
        complaints.sort(key=lambda each: (each.line or 0, each.column or 0))
        self.complaints += complaints
        self.policy = replace(policy, files=(*policy.files, source.file))

    def check_forcing(self, *, whole: bool) -> None:
        """Find what asks for force after a timeout and never gets it.

        A later file may deny what an earlier one asks for: that word counts, and is no mistake.  So may another file,
        where there are more than these, allow what these say nothing of.
        """
        if self.complaints:
            return  # what does not fit might have allowed it
        files = {file: number for number, file in enumerate(self.policy.files)}
        for match, remark in (*self._forcing, *(() if self._transition is None else (self._transition,))):
            denial = denied_force(self.policy, match)
            if denial is None:
                continue
            told = replace(remark, message=f"{remark.message} ({denial.rule})")
            said = denial.rule.kind is RuleKind.POLICY
            if files[denial.rule.place] > files[remark.file] if said else not whole:
                self.warnings.append(told)
            else:
                self.complaints.append(PolicyError(told.message, file=told.file, line=told.line, column=told.column))
        self.complaints.sort(key=lambda each: (files[each.file], each.line or 0))


def _with_settings(policy: Policy, table: Table, owner: int | None) -> Policy:
    default = table.take("default", choice(Permission))
    unknown_states = table.take("unknown-states", choice(Permission))
    gap = table.take("allow-unpatched-gap", choice(Permission))
    untrusted = table.take("untrusted", choice(Permission))
    certificates = table.take("trusted-certificates", list_of(lambda each: certificate_files(each, owner)))
    policy = replace(
        policy,
        mode=table.get("mode", choice(Mode), policy.mode),
        default=policy.default if default is None else _ruling(default),
        unknown_states=policy.unknown_states if unknown_states is None else _ruling(unknown_states),
        unpatched_gap=policy.unpatched_gap if gap is None else _ruling(gap),
        on_drift=table.get("on-drift", choice(OnDrift), policy.on_drift),
        ftrace_off=table.get("ftrace-off", choice(Permission), policy.ftrace_off),
        hold_timeout=table.get("hold-timeout", _HOLD_TIME, policy.hold_timeout),
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


def _livepatch(table: Table) -> LivepatchRule:
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
    return rule


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
