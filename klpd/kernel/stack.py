# SPDX-License-Identifier: GPL-2.0-or-later
"""The installed stack, put together from sysfs, kernel memory and what is known of the files that were loaded.

Each source may be ahead of another by a moment, since a livepatch comes or goes between two looks: the picture is
taken again until they agree.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final, Protocol

from klpd.kernel import sysfs
from klpd.kernel.signing import read_verified
from klpd.model import UNDECLARED, Installed, Leftover, Stack, StatesSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from klpd.kernel.memory import MemoryLivepatch
    from klpd.kernel.sysfs import LoadedModule, SysfsLivepatch
    from klpd.model import State
    from klpd.module.origin import Origin

_LOOKS: Final = 5
_BETWEEN_LOOKS: Final = 0.02


class Memory(Protocol):
    """A reader of the kernel's list of livepatches (klpd.kernel.memory)."""

    def read_patches(self) -> tuple[MemoryLivepatch, ...]: ...


class Known(Protocol):
    """Tells what is known of the file that a loaded livepatch came from, by name and build id."""

    def __call__(self, name: str, build_id: str, /) -> Origin | None: ...


def read_stack(memory: Memory | None, known: Known, *, generation: int = 0, root: Path = sysfs.ROOT) -> Stack:
    """The stack of the running kernel.

    `memory` is None where kernel memory cannot be read; states then come from the files that `known` finds, and the
    order from sysfs where the kernel shows it.  Raises KernelError where sysfs cannot be read.
    """
    shown, in_memory = _look(memory, root)
    for _again in range(_LOOKS):
        if memory is None or {each.name for each in in_memory} == set(shown):
            break
        time.sleep(_BETWEEN_LOOKS)
        shown, in_memory = _look(memory, root)
    details = {each.name: each for each in in_memory}
    ranks = {each.name: rank for rank, each in enumerate(in_memory)}
    ordered = sorted(shown.values(), key=lambda each: ranks.get(each.name, each.stack_order or len(ranks)))
    livepatches = tuple(_installed(each, details.get(each.name), known, root) for each in ordered)
    return Stack(
        livepatches=livepatches,
        leftovers=tuple(_leftovers(sysfs.read_modules(root), set(shown) | set(details), root)),
        kernel_release=os.uname().release,
        readable=memory is not None,
        generation=generation,
    )


def _look(memory: Memory | None, root: Path) -> tuple[dict[str, SysfsLivepatch], tuple[MemoryLivepatch, ...]]:
    shown = {each.name: each for each in sysfs.read_livepatches(root)}
    return shown, () if memory is None else memory.read_patches()


def _installed(shown: SysfsLivepatch, detail: MemoryLivepatch | None, known: Known, root: Path) -> Installed:
    file = None if shown.build_id is None else known(shown.name, shown.build_id)
    states, source = _states(detail, file)
    replace = shown.replace
    if replace is None and detail is not None:
        replace = detail.replace
    if replace is None and file is not None:
        replace = file.replace
    return Installed(
        name=shown.name,
        enabled=shown.enabled,
        transition=shown.transition,
        replace=replace,
        forced=None if detail is None else detail.forced,
        states=states,
        states_source=source,
        objects=shown.objects,
        build_id=shown.build_id,
        digest=None if file is None else file.digest,
        restores=None if file is None else file.restores,
        declared=UNDECLARED if file is None else file.declared,
        signature=None if file is None else file.signature,
        kernel_verified=read_verified(shown.name, root),
    )


def _states(detail: MemoryLivepatch | None, file: Origin | None) -> tuple[tuple[State, ...] | None, StatesSource]:
    if detail is not None and detail.states is not None:
        return detail.states, StatesSource.MEMORY
    if file is not None and file.states is not None:
        return file.states, StatesSource.FILE
    return None, StatesSource.NOWHERE


def _leftovers(modules: tuple[LoadedModule, ...], in_force: set[str], root: Path) -> Iterator[Leftover]:
    for module in modules:
        if module.is_livepatch and module.name not in in_force:
            # klp_free_patch_finish drops the last reference unless the transition was forced.
            removable = module.live and module.references == 0
            yield Leftover(module.name, removable, sysfs.read_build_id(module.name, root))
