# SPDX-License-Identifier: GPL-2.0-or-later
"""The oracle of the planner: tries every sequence of allowed actions, the short ones first.

It has no idea of where it goes: it knows the judge, and that who may not open a gap loads nothing once he has disabled
something.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from klpd.judge.rules import Permission
from klpd.judge.steps import same
from klpd.judge.verdict import judge
from klpd.model import Decision, Disable, Load, Remove, Reverse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.judge.rules import Policy
    from klpd.model import Action, Livepatch, Stack


def is_there(stack: Stack, wanted: tuple[Livepatch, ...]) -> bool:
    """Whether just `wanted` is in force, from these very files."""
    return len(stack.livepatches) == len(wanted) and all(map(same, stack.livepatches, wanted))


def shortest_way(stack: Stack, wanted: tuple[Livepatch, ...], policy: Policy) -> int | None:
    """How many loads, disables and reversals it takes to have just `wanted` in force; None where there is no way."""
    may_gap = policy.unpatched_gap.permission is Permission.ALLOW
    queue = deque([(0, stack, False)])
    seen = set()
    while queue:
        length, here, disabled = queue.popleft()
        place = (here.livepatches, frozenset(here.leftovers), disabled)
        if place in seen:
            continue
        seen.add(place)
        if is_there(here, wanted):
            return length
        for action in _actions(here, wanted):
            if isinstance(action, Load) and disabled and not may_gap:
                continue
            if judge(here, action, policy).decision is not Decision.ALLOW:
                continue
            there = here.after(action)
            if isinstance(action, Remove):
                queue.appendleft((length, there, disabled))
            else:
                queue.append((length + 1, there, disabled or isinstance(action, Disable)))
    return None


def _actions(stack: Stack, wanted: tuple[Livepatch, ...]) -> Iterator[Action]:
    yield from map(Load, wanted)
    for each in stack.livepatches:
        yield Disable(each.name)
        yield Reverse(each.name)
    for leftover in stack.leftovers:
        yield Remove(leftover.name)
