# SPDX-License-Identifier: GPL-2.0-or-later
"""Made-up livepatches, stacks, policies and actions.

Names, state ids and versions come from small sets, so that they meet often: what is interesting is how they collide.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from klpd.judge.rules import Comparison, LivepatchRule, Match, Mode, Permission, StateRule, VersionRange, Way
from klpd.model import UNDECLARED, Disable, Force, Installed, Leftover, Load, Remove, Reverse, Stack, State
from tests.builders import RELEASE, allowing, declares, denying, livepatch, policy, sticky
from tests.property.kernel_machine import KernelMachine, perform

if TYPE_CHECKING:
    from klpd.judge.rules import Policy, Ruling
    from klpd.model import Action, Declaration, Livepatch

NAMES: Final = ("klp_a", "klp_b", "klp_c", "klp_d", "klp_e")
names = st.sampled_from(NAMES)
ids = st.integers(1, 3)
versions = st.integers(0, 3)

state_arrays = st.lists(st.builds(State, ids, versions), max_size=3).map(tuple)
"""Duplicate ids included: nothing keeps a livepatch from having some."""
maybe_states = st.none() | state_arrays
maybe_replace = st.sampled_from([True, False, None])
maybe_restores = st.sampled_from([False, True, None])
declarations = st.builds(
    declares, st.dictionaries(ids, versions, max_size=3), sticky=st.booleans(), restores=maybe_restores
)
maybe_declared = st.just(UNDECLARED) | declarations


def livepatches(
    *,
    named: st.SearchStrategy[str] = names,
    states: st.SearchStrategy[tuple[State, ...] | None] = maybe_states,
    replace: st.SearchStrategy[bool | None] = maybe_replace,
    declared: st.SearchStrategy[Declaration] = maybe_declared,
) -> st.SearchStrategy[Livepatch]:
    return st.builds(livepatch, named, states, replace=replace, restores=maybe_restores, declared=declared)


undeclared = st.just(UNDECLARED)
known_livepatches = livepatches(states=state_arrays, replace=st.booleans(), declared=undeclared)
"""Livepatches of which everything is known."""


@st.composite
def resting_livepatches(
    draw: st.DrawFn,
    *,
    states: st.SearchStrategy[tuple[State, ...] | None] = maybe_states,
    declared: st.SearchStrategy[Declaration] = maybe_declared,
    most: int = 4,
) -> tuple[Livepatch, ...]:
    """What can be in force together, the oldest first: one that replaces can only be the oldest."""
    chosen = draw(st.lists(names, unique=True, max_size=most))
    return tuple(
        draw(
            livepatches(
                named=st.just(name),
                states=states,
                replace=st.just(False) if rank else st.sampled_from([True, False]),
                declared=declared,
            )
        )
        for rank, name in enumerate(chosen)
    )


@st.composite
def resting_stacks(
    draw: st.DrawFn,
    *,
    states: st.SearchStrategy[tuple[State, ...] | None] = maybe_states,
    declared: st.SearchStrategy[Declaration] = maybe_declared,
    readable: st.SearchStrategy[bool] = st.just(True),  # noqa: B008
) -> Stack:
    """Stacks without a transition, some livepatches forced, some modules left over."""
    files = draw(resting_livepatches(states=states, declared=declared))
    return dataclasses.replace(draw(_stacks_of(files)), readable=draw(readable))


@st.composite
def _stacks_of(draw: st.DrawFn, files: tuple[Livepatch, ...]) -> Stack:
    present = tuple(dataclasses.replace(Installed.expected(each), forced=draw(st.booleans())) for each in files)
    absent = [each for each in NAMES if all(each != file.name for file in files)]
    left = draw(st.lists(st.sampled_from(absent), unique=True)) if absent else []
    return Stack(present, tuple(Leftover(each, removable=draw(st.booleans())) for each in left), kernel_release=RELEASE)


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[Stack, tuple[Livepatch, ...]]:
    """A stack at rest, and livepatches to have in force instead: some of the present ones, and others on top."""
    present = draw(resting_livepatches())
    kept = present[: draw(st.integers(0, len(present)))]
    free = [each for each in draw(st.permutations(NAMES)) if all(each != file.name for file in kept)]
    others = tuple(
        draw(livepatches(named=st.just(name), replace=st.just(False) if kept or rank else st.booleans()))
        for rank, name in enumerate(free[: draw(st.integers(0, 2))])
    )
    return draw(_stacks_of(present)), kept + others


@st.composite
def stacks(
    draw: st.DrawFn,
    *,
    states: st.SearchStrategy[tuple[State, ...] | None] = maybe_states,
    readable: st.SearchStrategy[bool] = st.just(True),  # noqa: B008
) -> Stack:
    """Stacks at rest, stacks in transition, and stacks whose `replace` flags are not all known."""
    resting = draw(resting_stacks(states=states, readable=readable))
    rank = draw(st.none() | st.integers(0, len(resting.livepatches) - 1)) if resting.livepatches else None
    return dataclasses.replace(
        resting,
        livepatches=tuple(
            dataclasses.replace(
                each,
                replace=draw(st.sampled_from([each.replace, None, True] if index == rank else [each.replace, None])),
                transition=index == rank,
                enabled=index != rank or draw(st.booleans()),
            )
            for index, each in enumerate(resting.livepatches)
        ),
    )


actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(Load, livepatches()),
    st.builds(Disable, names),
    st.builds(Reverse, names),
    st.builds(Force, names),
    st.builds(Remove, names),
)


def actions_on(
    stack: Stack, loads: st.SearchStrategy[Livepatch], others: st.SearchStrategy[Action] = actions
) -> st.SearchStrategy[Action]:
    """Actions that make sense on `stack` for the most part: where all are refused, a law says little."""
    taken = {*(each.name for each in stack.livepatches), *(each.name for each in stack.leftovers)}
    moving = stack.transition
    sensible: list[st.SearchStrategy[Action]] = [
        loads.filter(lambda livepatch: livepatch.name not in taken).map(Load)
        if moving is None
        else st.sampled_from([Reverse(moving.name), Force(moving.name)])
    ]
    if stack.livepatches:
        sensible.append(st.sampled_from([Disable(each.name) for each in stack.livepatches]))
    if stack.leftovers:
        sensible.append(st.sampled_from([Remove(each.name) for each in stack.leftovers]))
    return st.one_of(*sensible, *sensible, others)


known_actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(Load, known_livepatches),
    st.builds(Disable, names),
    st.builds(Reverse, names),
    st.builds(Force, names),
    st.builds(Remove, names),
)


def known_actions_on(stack: Stack) -> st.SearchStrategy[Action]:
    return actions_on(stack, known_livepatches, known_actions)


@st.composite
def kernels(draw: st.DrawFn) -> KernelMachine:
    """A kernel that some history has led to where it is."""
    kernel = KernelMachine(RELEASE)
    for file in draw(resting_livepatches(states=state_arrays, declared=undeclared)):
        kernel.finit_module(file)
        kernel.complete()
    for _event in range(draw(st.integers(0, 8))):
        _happen(kernel, draw)
    return kernel


def _happen(kernel: KernelMachine, draw: st.DrawFn) -> None:
    event = draw(st.sampled_from(["act", "act", "complete", "force"]))
    moving = "" if kernel.moving is None else kernel.moving.name
    if event == "complete":
        kernel.complete()
    elif event == "force":
        kernel.write_force(moving)
    else:
        perform(kernel, draw(known_actions_on(kernel.look())))


rulings: st.SearchStrategy[Ruling] = st.sampled_from([allowing(2), allowing(2), allowing(2), denying(2)])
version_ranges = st.builds(
    VersionRange, st.lists(st.tuples(st.sampled_from(Comparison), versions), min_size=1, max_size=2).map(tuple)
)
state_rules = st.one_of(
    st.builds(sticky, ids),
    st.builds(
        StateRule,
        ids,
        st.just(denying(3).rule),
        rulings=st.dictionaries(st.sampled_from(Way), rulings),
        versions=st.none() | version_ranges,
    ),
)
livepatch_rules = st.builds(
    LivepatchRule,
    st.just(denying(4).rule),
    st.builds(Match, name=st.none() | names | st.just("klp_*"), replace=maybe_replace),
    st.none() | st.sampled_from(Permission),
    force=st.none() | rulings,
)
policies: st.SearchStrategy[Policy] = st.builds(
    lambda states, default, unknown, force, gap, rules, mode: policy(
        *states,
        default=default,
        unknown_states=unknown,
        force=force,
        unpatched_gap=gap,
        livepatches=tuple(rules),
        mode=mode,
    ),
    st.lists(state_rules, max_size=3),
    rulings,
    rulings,
    rulings,
    rulings,
    st.lists(livepatch_rules, max_size=2),
    st.sampled_from(Mode),
)
