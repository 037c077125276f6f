# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel as klpctl finds it where klpd does not run, as far as its user may: what klpd would go by."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from klpd.errors import GuardError, KernelError, PolicyError
from klpd.judge.declared import stack_with_manifests
from klpd.judge.ways import Gate, gate_of
from klpd.kernel import gate, guard_checks
from klpd.kernel.guard import Guard, GuardMode
from klpd.kernel.memory import KernelMemory
from klpd.kernel.stack import read_stack
from klpd.model import Declaration
from klpd.module.origin import Origin, find_origin
from klpd.module.search import find_livepatches, watched_directories
from klpd.policy.beside import with_beside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from klpd.judge.rules import Policy
    from klpd.layout import Layouts
    from klpd.model import Livepatch, Stack
    from klpd.remembered import Remembered


def gate_here(policy: Policy) -> Gate:
    """What would keep livepatches out of this kernel, were klpd running."""
    opened = gate.guard_mode(policy.mode) is GuardMode.OFF
    if gate.switched_off():
        return Gate.MISSING
    guarded = Gate.FALLBACK if guard_checks.obstacles() else Gate.CLOSED
    return gate_of(policy.mode, opened=opened, guarded=guarded)


class Finder:
    """Finds the file of a loaded livepatch among those that klpd remembers and those in `folders`.

    `entered` gives the digest (hex) of the bytes that were seen to enter the kernel by a name; None where that is not
    to be had.
    """

    def __init__(
        self,
        remembered: Remembered,
        folders: tuple[Path, ...],
        layouts: Layouts,
        entered: Callable[[str], str | None] = lambda _name: None,
    ) -> None:
        self._remembered = remembered
        self._folders = folders
        self._layouts = layouts
        self._entered = entered

    def __call__(self, name: str, build_id: str, /) -> Origin | None:
        origin = find_origin(name, build_id, self._entered(name), self._remembered, lambda: self._found(name, build_id))
        if self._remembered.unreadable is None:
            return origin
        known = origin or Origin()
        return replace(known, declared=known.declared + Declaration(unreadable=self._remembered.unreadable))

    def _found(self, name: str, build_id: str) -> Iterator[Livepatch]:
        for livepatch, _data, path in find_livepatches(name, build_id, self._folders, self._layouts):
            try:
                yield with_beside(livepatch, str(path), self._remembered.declared)
            except PolicyError as error:
                yield replace(livepatch, declared=livepatch.declared + Declaration(unreadable=str(error)))


@contextmanager
def _seen_to_enter() -> Iterator[Callable[[str], str | None]]:
    """What the guard saw enter by a name, as a digest (hex); nothing where this user may not ask it."""
    try:
        guard = Guard()
    except (GuardError, KernelError):
        yield lambda _name: None
        return
    try:
        yield guard.entered_digest
    finally:
        guard.release()


def stack_here(remembered: Remembered, layouts: Layouts, policy: Policy | PolicyError) -> Stack:
    """The installed stack; its states are known where kernel memory can be read, which root alone may.

    Without a policy, what the site's manifests declare is not known.  Raises KernelError.
    """
    folders = watched_directories(() if isinstance(policy, PolicyError) else policy.directories)
    with _seen_to_enter() as entered:
        finder = Finder(remembered, folders, layouts, entered)
        try:
            memory = KernelMemory()
        except (GuardError, KernelError):
            stack = read_stack(None, finder)
        else:
            with closing(memory):
                stack = read_stack(memory, finder)
    if isinstance(policy, PolicyError):
        unknown = Declaration(unreadable=str(policy))
        return replace(
            stack, livepatches=tuple(replace(each, declared=each.declared + unknown) for each in stack.livepatches)
        )
    return stack_with_manifests(stack, policy)
