# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel's own rules, as far as they can be told beforehand: what it would refuse, and where it does so.

The kernel refuses late (after the module's init ran) and mostly without a reason; klpd says the same earlier.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from klpd.judge.findings import deny
from klpd.model import Rule, RuleKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.judge.rules import Policy
    from klpd.model import Finding, Installed, Livepatch, Stack, State

COMPATIBLE: Final = Rule(RuleKind.KERNEL, "klp_is_patch_compatible in kernel/livepatch/state.c")
ONE_TRANSITION: Final = Rule(RuleKind.KERNEL, "__klp_enable_patch in kernel/livepatch/core.c")
ONE_TRANSITION_DISABLE: Final = Rule(RuleKind.KERNEL, "__klp_disable_patch in kernel/livepatch/core.c")
FORCE_STORE: Final = Rule(RuleKind.KERNEL, "force_store in kernel/livepatch/core.c")
ENABLED_STORE: Final = Rule(RuleKind.KERNEL, "enabled_store in kernel/livepatch/core.c")
UNIQUE_NAME: Final = Rule(RuleKind.KERNEL, "add_unformed_module in kernel/module/main.c")
DELETE_MODULE: Final = Rule(RuleKind.KERNEL, "delete_module in kernel/module/main.c")
FORCED: Final = Rule(RuleKind.KERNEL, "klp_force_transition in kernel/livepatch/transition.c")
OBJECT: Final = Rule(RuleKind.KERNEL, "klp_init_object in kernel/livepatch/core.c")
FUNCTION: Final = Rule(RuleKind.KERNEL, "klp_init_func in kernel/livepatch/core.c")
THIS_KERNEL: Final = Rule(RuleKind.BUILTIN, "a livepatch is for the one kernel that it was built for")


def load_findings(stack: Stack, livepatch: Livepatch, policy: Policy) -> Iterator[Finding]:
    """What the kernel would refuse of loading `livepatch` onto `stack`."""
    name = livepatch.name
    if livepatch.kernel_release != stack.kernel_release:
        yield deny(
            "other-kernel",
            THIS_KERNEL,
            f"{name} was built for kernel {livepatch.kernel_release or '(none named)'}; this is {stack.kernel_release}",
            f"build or install the livepatch for {stack.kernel_release}",
        )
    if stack.find(name) is not None:
        yield deny(
            "already-loaded",
            UNIQUE_NAME,
            f"a livepatch named {name} is installed already",
            f"nothing, if it is the same one; else disable it first: klpctl disable {name}",
        )
    elif (leftover := stack.leftover(name)) is not None:
        yield deny(
            "module-left-over",
            UNIQUE_NAME if leftover.removable else FORCED,
            f"the module {name} is still loaded, though its livepatch is no longer in force",
            f"use klpctl apply, which removes it first; or remove it by hand: klpctl remove {name}"
            if leftover.removable
            else "reboot: the kernel keeps a module for good once its transition was forced",
        )
    if (moving := stack.transition) is not None:
        yield deny(
            "transition-running",
            ONE_TRANSITION,
            f"the transition of {moving.name} is not over, and the kernel runs one at a time",
            "wait until it is over, or reverse it: klpctl revert",
        )
    for installed in stack.livepatches:
        yield from _incompatible(installed, livepatch, policy)
    yield from _malformed(livepatch)


def _malformed(livepatch: Livepatch) -> Iterator[Finding]:
    """What the kernel makes an entry in sysfs of, twice by one name; it refuses that with a warning and a backtrace."""
    seen: set[str] = set()
    for each in livepatch.objects or ():
        if each.name in seen:
            yield deny(
                "object-twice",
                OBJECT,
                f"{livepatch.name} has {each.name} twice among the objects that it patches",
                "build it with all functions of an object in one klp_object",
            )
        seen.add(each.name)
        # The kernel calls the only one, or the first, of a name the first: "NAME,1".
        entries = Counter((function.name, function.sympos or 1) for function in each.functions)
        for (function, position), count in entries.items():
            if count > 1:
                yield deny(
                    "function-twice",
                    FUNCTION,
                    f"{livepatch.name} replaces {function} of {each.name} (its symbol number {position}) {count} times",
                    "build it with one replacement for each function",
                )
            if not function:
                yield deny(
                    "function-unnamed",
                    FUNCTION,
                    f"{livepatch.name} replaces a function of {each.name} that has no name",
                    "build it with the names of the functions that it replaces",
                )


def _incompatible(installed: Installed, livepatch: Livepatch, policy: Policy) -> Iterator[Finding]:
    if livepatch.states is None:
        return  # what is not known is the policy's business, not the kernel's
    for state in installed.states or ():
        carried = first_state(livepatch.states, state.id)
        named = policy.state_name(state.id)
        if carried is None:
            if livepatch.replace is not False:
                yield deny(
                    "state-missing",
                    COMPATIBLE,
                    f"{livepatch.name} replaces {installed.name} but does not carry its state {named} "
                    f"version {state.version}",
                    f"load a cumulative livepatch that carries state {named}, or disable {installed.name} first",
                    state=state.id,
                )
        elif carried.version < state.version:
            yield deny(
                "state-downgrade",
                COMPATIBLE,
                f"{livepatch.name} carries state {named} version {carried.version}; {installed.name} has "
                f"installed version {state.version}",
                f"load one with version {state.version} or later; to go back, unpatch first: klpctl revert",
                state=state.id,
            )


def first_state(states: tuple[State, ...], state_id: int) -> State | None:
    """The kernel's klp_get_state: of several entries with an id, the first counts."""
    return next((each for each in states if each.id == state_id), None)


def disable_findings(stack: Stack, name: str) -> Iterator[Finding]:
    """What the kernel would refuse of writing 0 to `enabled` of the livepatch `name`."""
    installed = stack.find(name)
    moving = stack.transition
    if installed is None:
        yield deny(
            "not-installed",
            ENABLED_STORE,
            f"no livepatch named {name} is installed",
            "klpctl status lists those that are",
        )
    elif moving is not None:
        yield deny(
            "transition-running",
            ONE_TRANSITION_DISABLE,
            f"the transition of {moving.name} is not over, and the kernel runs one at a time",
            "wait until it is over, or reverse it: klpctl revert",
        )


def reverse_findings(stack: Stack, name: str) -> Iterator[Finding]:
    """What the kernel would refuse of reversing the transition of the livepatch `name`."""
    moving = stack.transition
    if moving is None or moving.name != name:
        yield deny(
            "no-transition",
            ENABLED_STORE,
            f"{name} is not in transition, so there is nothing to reverse",
            "klpctl revert plans the way back where the transition is over",
        )


def force_findings(stack: Stack, name: str) -> Iterator[Finding]:
    """What the kernel would refuse of forcing the transition of the livepatch `name`."""
    moving = stack.transition
    if moving is None or moving.name != name:
        yield deny(
            "no-transition",
            FORCE_STORE,
            f"{name} is not in transition, so there is nothing to force",
            "nothing, if its transition has ended; klpctl status tells",
        )


def remove_findings(stack: Stack, name: str) -> Iterator[Finding]:
    """What the kernel would refuse of removing the module of the livepatch `name`."""
    leftover = stack.leftover(name)
    if stack.find(name) is not None:
        yield deny(
            "in-use",
            DELETE_MODULE,
            f"{name} is still a livepatch in force, so its module is in use",
            f"disable it first: klpctl disable {name}",
        )
    elif leftover is None:
        yield deny(
            "not-loaded", DELETE_MODULE, f"no livepatch module named {name} is loaded", "klpctl status lists them"
        )
    elif not leftover.removable:
        yield deny(
            "kept-for-good",
            FORCED,
            f"the kernel keeps the module {name} for good, since a transition was forced",
            "only a reboot takes it out",
        )
