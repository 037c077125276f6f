# SPDX-License-Identifier: GPL-2.0-or-later
"""What rules on livepatches do to each other by the order in which they are asked: which of them never decide.

Only what can be proven is said: a rule that may still decide is never named.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from klpd.judge.rules import Permission
from klpd.model import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from klpd.judge.rules import LivepatchRule, Match, Policy, Ruling

_MOST_PAIRS: Final = 1_000_000
"""How many pairs of rules are compared; who has more rules than make these is told of fewer."""

_SAYS: Final[tuple[Callable[[LivepatchRule], bool], ...]] = (
    lambda rule: rule.permission is not None,
    lambda rule: rule.timeout is not None,
    lambda rule: rule.on_timeout is not None,
    lambda rule: rule.force is not None,
)
"""What a rule can say something of.  Each of these is decided by itself."""


@dataclass(frozen=True, slots=True)
class Shadowed:
    """A rule that decides nothing, since others that are asked before it decide all that it speaks of."""

    rule: Rule
    by: tuple[Rule, ...]


def shadowed(policy: Policy) -> Iterator[Shadowed]:
    """The rules that never decide, each with those that do so in its place."""
    pairs = 0
    for index, rule in enumerate(policy.livepatches):
        spoken_of = [says for says in _SAYS if says(rule)]
        by = tuple[Rule, ...]()
        for earlier in policy.livepatches[:index]:
            pairs += 1
            taken = [says for says in spoken_of if says(earlier)]
            if taken and earlier.match.covers(rule.match):
                by += (earlier.rule,)
                spoken_of = [each for each in spoken_of if each not in taken]
            if not spoken_of:
                yield Shadowed(rule.rule, by)
                break
        if pairs > _MOST_PAIRS:
            return


def denied_force(policy: Policy, match: Match) -> Ruling | None:
    """What denies forcing all transitions of what `match` matches; None where one of them may be forced."""
    for rule in policy.livepatches:
        if rule.force is not None and not rule.match.excludes(match):
            if rule.force.permission is Permission.ALLOW:
                return None
            if rule.match.covers(match):
                return rule.force
    return None if policy.transition.force.permission is Permission.ALLOW else policy.transition.force
