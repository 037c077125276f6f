# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps that plans are made of: actions, the removals of modules that belong to them, and the verdict on each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from klpd.judge.verdict import judge
from klpd.model import Action, Disable, Load, Remove, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from klpd.judge.rules import Policy
    from klpd.model import Installed, Livepatch, Stack


@dataclass(frozen=True, slots=True)
class Step:
    """One action of a plan, with the verdict on the stack that the steps before it lead to."""

    action: Action
    verdict: Verdict


def same(installed: Installed, livepatch: Livepatch) -> bool:
    """Whether an installed livepatch came from this very file, as far as can be told."""
    if installed.name != livepatch.name:
        return False
    if installed.digest is not None:
        return installed.digest == livepatch.digest
    return installed.build_id is not None and installed.build_id == livepatch.build_id


def loading(stack: Stack, livepatch: Livepatch) -> tuple[Action, ...]:
    """Load `livepatch`, with the removals that it needs before (its name is taken) and makes due after."""
    leftover = stack.leftover(livepatch.name)
    if leftover is None or not leftover.removable:
        return tidied(stack, Load(livepatch))
    freeing = Remove(livepatch.name)
    return (freeing, *tidied(stack.after(freeing), Load(livepatch)))


def disabling(stack: Stack, name: str) -> tuple[Action, ...]:
    """Disable the livepatch `name` and remove its module."""
    return tidied(stack, Disable(name))


def tidied(stack: Stack, action: Action) -> tuple[Action, ...]:
    """`action`, and the removal of the modules that it leaves over, but for those that the kernel keeps for good."""
    before = {each.name for each in stack.settled.leftovers}
    left = (each for each in stack.after(action).leftovers if each.removable and each.name not in before)
    return (action, *(Remove(each.name) for each in left))


def after(stack: Stack, actions: Iterable[Action]) -> Stack:
    """The stack that `actions` lead to."""
    for action in actions:
        stack = stack.after(action)
    return stack


def judged(stack: Stack, actions: Iterable[Action], policy: Policy) -> tuple[Step, ...]:
    """`actions` as steps, one after another."""
    steps = []
    for action in actions:
        steps.append(Step(action, judge(stack, action, policy)))
        stack = stack.after(action)
    return tuple(steps)
