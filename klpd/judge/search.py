# SPDX-License-Identifier: GPL-2.0-or-later
"""The search for the shortest way from one stack to another that every rule allows (A*: the best estimate first).

Where no such way exists, it finds the one with the least in its way: it would rather meet the site's rules, which can
be changed, than the kernel's.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from klpd.judge.rules import Permission, Policy
from klpd.judge.steps import Step, after, disabling, judged, loading, same
from klpd.model import Decision, Disable, Livepatch, Load, RuleKind, Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.model import Action, Installed, Leftover, Verdict

    _Place = tuple[tuple[Installed, ...], frozenset[Leftover], "Phase"]

_MOST_STEPS: Final = 4000
"""After so many steps have been judged the search is given up, which takes a second.  A way that nothing obstructs is
found far earlier, however many livepatches there are."""


class Cost(NamedTuple):
    """What is bad about a way, the worst first.  `steps` counts loads and disables."""

    kernel_denials: int = 0
    site_denials: int = 0
    unknowns: int = 0
    steps: int = 0
    gaps: int = 0

    def plus(self, other: Cost) -> Cost:
        return Cost(*map(int.__add__, self, other))


class Phase(IntEnum):
    """How far a way is from having a gap: a load after a disable."""

    WHOLE = 0
    DISABLED = 1
    GAP = 2


@dataclass(frozen=True, slots=True)
class _Way:
    """A way from the start to `stack`."""

    stack: Stack
    phase: Phase
    cost: Cost
    steps: tuple[Step, ...]

    @property
    def place(self) -> _Place:
        """Two ways to the same place go on in the same way."""
        return self.stack.livepatches, frozenset(self.stack.leftovers), self.phase


def find_way(stack: Stack, wanted: tuple[Livepatch, ...], policy: Policy) -> tuple[Step, ...] | None:
    """The steps from `stack`, which is at rest, to one with just `wanted` in force.

    None where no steps lead there, for all that is known of the livepatches, or where there is too much to look at.
    """
    search = _Search(wanted, policy)
    start = _Way(stack, Phase.WHOLE, Cost(), ())
    numbers = itertools.count()  # among equals, the one that was found first
    estimate = search.estimate(start)
    open_ways = [] if estimate is None else [(estimate, 0, next(numbers), start)]
    done: set[_Place] = set()
    looked_at = 0
    while open_ways and looked_at < _MOST_STEPS:
        _estimate, depth, _number, way = heapq.heappop(open_ways)
        if search.is_there(way.stack):
            return way.steps
        if way.place in done:
            continue
        done.add(way.place)
        for further in search.further(way):
            looked_at += len(further.steps) - len(way.steps)
            estimate = search.estimate(further)
            if estimate is not None and further.place not in done:
                heapq.heappush(open_ways, (estimate, depth - 1, next(numbers), further))
    return None


@dataclass(frozen=True, slots=True)
class _Search:
    wanted: tuple[Livepatch, ...]
    policy: Policy

    def is_there(self, stack: Stack) -> bool:
        return len(stack.livepatches) == len(self.wanted) and all(map(same, stack.livepatches, self.wanted))

    def estimate(self, way: _Way) -> Cost | None:
        """The least that a way to the end costs which begins like this; None where there is none."""
        present = way.stack.livepatches
        missing = [each for each in self.wanted if not any(same(other, each) for other in present)]
        if any(each.replace is not False for each in missing if each is not self.wanted[0]):
            return None  # it would take out those before it
        surplus = [each for each in present if not any(same(each, other) for other in self.wanted)]
        replaced = any(each.replace is not False for each in missing)
        rest = Cost(steps=len(missing) + (0 if replaced else len(surplus)))
        if missing and way.phase is Phase.DISABLED:
            rest = rest.plus(self._gap)
        return way.cost.plus(rest)

    def further(self, way: _Way) -> Iterator[_Way]:
        """The ways that are one load or one disable longer."""
        stack = way.stack
        for each in reversed(stack.livepatches):
            yield self._along(way, disabling(stack, each.name), max(way.phase, Phase.DISABLED))
        for livepatch in self.wanted:
            if stack.find(livepatch.name) is None:
                phase = Phase.WHOLE if way.phase is Phase.WHOLE else Phase.GAP
                yield self._along(way, loading(stack, livepatch), phase)

    def _along(self, way: _Way, actions: tuple[Action, ...], phase: Phase) -> _Way:
        steps = judged(way.stack, actions, self.policy)
        cost = way.cost
        for step in steps:
            cost = cost.plus(_cost(step))
        if phase is Phase.GAP and way.phase is not Phase.GAP:
            cost = cost.plus(self._gap)
        return _Way(after(way.stack, actions), phase, cost, (*way.steps, *steps))

    @property
    def _gap(self) -> Cost:
        denied = self.policy.unpatched_gap.permission is Permission.DENY
        return Cost(site_denials=denied, gaps=1)


def _cost(step: Step) -> Cost:
    decision = step.verdict.decision
    by_kernel = decision is Decision.DENY and _kernel_denies(step.verdict)
    return Cost(
        kernel_denials=by_kernel,
        site_denials=decision is Decision.DENY and not by_kernel,
        unknowns=decision is Decision.UNKNOWN,
        steps=isinstance(step.action, Load | Disable),
    )


def _kernel_denies(verdict: Verdict) -> bool:
    return any(each.decision is Decision.DENY and each.rule.kind is RuleKind.KERNEL for each in verdict.findings)
