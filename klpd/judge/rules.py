# SPDX-License-Identifier: GPL-2.0-or-later
"""A policy as the judge applies it.  `klpd.policy` reads these values from TOML files; nothing here knows of files.

Each rule carries the place where it was written, for the findings that it leads to.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from klpd.judge.patterns import EVERYTHING, Pattern
from klpd.model import UNDECLARED, ChangeKind, Decision, Declaration, Installed, Rule, RuleKind, Standing, Trust

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.model import Livepatch, Signature


class Mode(StrEnum):
    """ENFORCE: refuse what is denied.  AUDIT: judge and record, refuse nothing."""

    ENFORCE = "enforce"
    AUDIT = "audit"


class Permission(StrEnum):
    """What a rule says."""

    ALLOW = "allow"
    DENY = "deny"

    @property
    def decision(self) -> Decision:
        return Decision(self.value)


class OnTimeout(StrEnum):
    """What to do with a transition that takes longer than the policy gives it.

    FORCE takes effect only where forcing is allowed for that livepatch, too.
    """

    REVERSE = "reverse"
    WAIT = "wait"
    FORCE = "force"


class OnDrift(StrEnum):
    """What to do with a livepatch that is installed, and that nobody approved."""

    REPORT = "report"
    DISABLE = "disable"


@dataclass(frozen=True, slots=True)
class Ruling:
    """A permission and the rule that gives it."""

    permission: Permission
    rule: Rule


NO_FORCE: Final = Ruling(Permission.DENY, Rule(RuleKind.BUILTIN, 'force = "deny"'))
"""What holds of forcing transitions where no file says anything."""

NO_GAP: Final = Ruling(Permission.DENY, Rule(RuleKind.BUILTIN, 'allow-unpatched-gap = "deny"'))
"""What holds of exchanging livepatches with neither of them in force in between, where no file says anything."""


@dataclass(frozen=True, slots=True)
class TransitionRules:
    """How a transition may go: `timeout` in seconds, what to do then, and whether it may be forced."""

    timeout: float = 300.0
    on_timeout: OnTimeout = OnTimeout.REVERSE
    force: Ruling = NO_FORCE


class Verifier(Protocol):
    """What verifies signatures with the certificates that a policy trusts.  The same signature, the same answer."""

    def __call__(self, signature: Signature | None, /) -> Trust: ...


def without_certificates(signature: Signature | None, /) -> Trust:
    """What can be said of a signature where no certificate is trusted."""
    if signature is None:
        return Trust(Standing.UNSIGNED, detail="it is not signed")
    return Trust(Standing.UNVERIFIED, detail="the policy names no certificate to verify its signature with")


ANY_SIGNER: Final = Ruling(Permission.ALLOW, Rule(RuleKind.BUILTIN, 'untrusted = "allow"'))
"""What holds of livepatches that nobody signed whom the policy trusts, where no file says anything."""


class Comparison(StrEnum):
    """An operator of a version range."""

    LESS = "<"
    LESS_EQUAL = "<="
    EQUAL = "=="
    NOT_EQUAL = "!="
    GREATER_EQUAL = ">="
    GREATER = ">"


_COMPARE: Final[dict[Comparison, Callable[[int, int], bool]]] = {
    Comparison.LESS: operator.lt,
    Comparison.LESS_EQUAL: operator.le,
    Comparison.EQUAL: operator.eq,
    Comparison.NOT_EQUAL: operator.ne,
    Comparison.GREATER_EQUAL: operator.ge,
    Comparison.GREATER: operator.gt,
}


@dataclass(frozen=True, slots=True)
class VersionRange:
    """Versions of a state that a policy accepts: every bound must hold, as in ">=2, <5"."""

    bounds: tuple[tuple[Comparison, int], ...]

    def __contains__(self, version: int) -> bool:
        return all(_COMPARE[comparison](version, bound) for comparison, bound in self.bounds)

    def __str__(self) -> str:
        return ", ".join(f"{comparison}{bound}" for comparison, bound in self.bounds)


class Way(StrEnum):
    """What can become of a state that a policy may have a word on.

    REVERSE covers what a reversal of a running transition drops or downgrades; DROP and DOWNGRADE everything else.
    """

    INTRODUCE = "introduce"
    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    DROP = "drop"
    REVERSE = "reverse"

    @classmethod
    def of(cls, kind: ChangeKind, *, reversal: bool) -> Way | None:
        """The way that a change goes; None where there is nothing to rule on.

        That is a state which stays as it is, and one that a reversal brings back: it was there before.
        """
        if kind is ChangeKind.KEEP:
            return None
        if reversal:
            return cls.REVERSE if kind in (ChangeKind.DROP, ChangeKind.DOWNGRADE) else None
        return cls(kind.value)


STICKY_WAYS: Final = (Way.DROP, Way.DOWNGRADE, Way.REVERSE)
"""What `sticky = true` denies."""


@dataclass(frozen=True, slots=True)
class StateRule:
    """What a site says of one klp_state id.  `rule` is where its table begins."""

    id: int
    rule: Rule
    name: str | None = None
    rulings: Mapping[Way, Ruling] = field(default_factory=dict)
    versions: VersionRange | None = None
    versions_rule: Rule | None = None

    @property
    def sticky(self) -> bool:
        """Whether nothing takes the state out or back."""
        return all(way in self.rulings and self.rulings[way].permission is Permission.DENY for way in STICKY_WAYS)


@dataclass(frozen=True, slots=True)
class Match:
    """The livepatches that a rule is about: every condition that is given must hold.

    `name` is a pattern (klpd.judge.patterns), which ValueError is raised for where it is none; digits are hex in lower
    case.  `signer` is the common name of a trusted certificate that the signature was verified with, never a claim.
    """

    name: str | None = None
    sha256: str | None = None
    build_id: str | None = None
    replace: bool | None = None
    signer: str | None = None
    pattern: Pattern | None = field(init=False, repr=False, compare=False)
    """`name`, read once: it is asked for at each open of a livepatch."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pattern", None if self.name is None else Pattern.parse(self.name))

    def __call__(self, livepatch: Livepatch | Installed, verify: Verifier = without_certificates) -> bool:
        return (
            (self.pattern is None or self.pattern.matches(livepatch.name))
            and self.sha256 in (None, livepatch.digest)
            and self.build_id in (None, livepatch.build_id)
            and (self.replace is None or livepatch.replace is self.replace)
            and (self.signer is None or self._signed(verify(livepatch.signature)))
        )

    def covers(self, other: Match) -> bool:
        """Whether this is known to match whatever `other` matches, under any policy."""
        return (
            (self.pattern is None or self.pattern.covers(other.pattern or EVERYTHING))
            and self.sha256 in (None, other.sha256)
            and self.build_id in (None, other.build_id)
            and self.replace in (None, other.replace)
            and self.signer in (None, other.signer)
        )

    def excludes(self, other: Match) -> bool:
        """Whether nothing is known to match both this and `other`, under any policy."""
        pairs = (
            (self.sha256, other.sha256),
            (self.build_id, other.build_id),
            (self.replace, other.replace),
            (self.signer, other.signer),
        )
        return any(None not in pair and pair[0] != pair[1] for pair in pairs) or (
            self.pattern is not None and other.pattern is not None and self.pattern.excludes(other.pattern)
        )

    def _signed(self, trust: Trust) -> bool:
        return trust.trusted and trust.signer == self.signer


@dataclass(frozen=True, slots=True)
class LivepatchRule:
    """A rule on livepatches; of several that match, the one that is asked first decides.

    Without `permission` it is about their transitions only.  There, too, the first decides that says something.
    """

    rule: Rule
    match: Match
    permission: Permission | None
    reason: str | None = None
    timeout: float | None = None
    on_timeout: OnTimeout | None = None
    force: Ruling | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is declared of one livepatch, which is told by the SHA-256 of its file, its build id, or both.

    `file` is where it stands.
    """

    file: str
    declaration: Declaration = UNDECLARED
    sha256: str | None = None
    build_id: str | None = None

    def is_for(self, livepatch: Livepatch | Installed) -> bool:
        """Whether it is about this livepatch.  The build id alone has to do where the file's digest is not known."""
        if self.sha256 is None or livepatch.digest is None:
            return self.build_id is not None and self.build_id == livepatch.build_id
        return self.sha256 == livepatch.digest and self.build_id in (None, livepatch.build_id)

    def meets(self, other: Manifest) -> bool:
        """Whether both are about the same livepatch, as far as they tell."""
        if self.sha256 is None or other.sha256 is None:
            return self.build_id is not None and self.build_id == other.build_id
        ids = {self.build_id, other.build_id} - {None}
        return self.sha256 == other.sha256 and len(ids) <= 1


@dataclass(frozen=True, slots=True)
class Policy:
    """A site's rules, and its manifests.

    Times are in seconds; `directories` are watched beside the kernel's module tree.  `livepatches` are in the order in
    which they are asked.  `ftrace_off`: whether root may set kernel.ftrace_enabled to 0.
    """

    mode: Mode
    default: Ruling
    unknown_states: Ruling
    states: Mapping[int, StateRule] = field(default_factory=dict)
    livepatches: tuple[LivepatchRule, ...] = ()
    unpatched_gap: Ruling = NO_GAP
    transition: TransitionRules = field(default_factory=TransitionRules)
    hold_timeout: float = 5.0
    on_drift: OnDrift = OnDrift.REPORT
    directories: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    manifests: tuple[Manifest, ...] = ()
    untrusted: Ruling = ANY_SIGNER
    verify: Verifier = without_certificates
    ftrace_off: Permission = Permission.DENY

    def trust(self, livepatch: Livepatch | Installed) -> Trust:
        """How far the livepatch's signature can be trusted."""
        if isinstance(livepatch, Installed) and livepatch.digest is None:
            return Trust(Standing.UNVERIFIED, detail="the file that it was loaded from is not known")
        return self.verify(livepatch.signature)

    def matches(self, rule: LivepatchRule, livepatch: Livepatch | Installed) -> bool:
        """Whether a rule is about this livepatch."""
        return rule.match(livepatch, self.verify)

    def transition_of(self, livepatch: Livepatch | Installed) -> TransitionRules:
        """What holds of the transitions of a livepatch: key by key, the first rule that matches it and sets the key."""
        rules = [each for each in self.livepatches if self.matches(each, livepatch)]
        general = self.transition
        return TransitionRules(
            timeout=next((each.timeout for each in rules if each.timeout is not None), general.timeout),
            on_timeout=next((each.on_timeout for each in rules if each.on_timeout is not None), general.on_timeout),
            force=next((each.force for each in rules if each.force is not None), general.force),
        )

    def ruling(self, state_id: int, way: Way) -> Ruling | None:
        """What is said of a state going that way; None where nothing is."""
        rule = self.states.get(state_id)
        return None if rule is None else rule.rulings.get(way)

    def state_name(self, state_id: int) -> str:
        """A state as people are to read it: its id in hex and the site's name for it."""
        rule = self.states.get(state_id)
        return f"{state_id:#x}" if rule is None or rule.name is None else f"{state_id:#x} ({rule.name})"


def builtin_policy(why: str) -> Policy:
    """What holds where no policy could be read: no livepatch is let in, nothing else is touched."""
    rule = Rule(RuleKind.BUILTIN, f"deny unknown livepatches ({why})")
    deny = Ruling(Permission.DENY, rule)
    return Policy(mode=Mode.ENFORCE, default=deny, unknown_states=deny)
