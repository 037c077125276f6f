# SPDX-License-Identifier: GPL-2.0-or-later
"""The installed stack, put together from sysfs, kernel memory and what is known of the files that were loaded.

Each source may be ahead of another by a moment, since a livepatch comes or goes between two looks: the picture is
taken again until they agree.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from klpd.kernel import sysfs
from klpd.kernel.memory import MemoryLivepatch
from klpd.kernel.signing import read_verified
from klpd.kernel.sysfs import SysfsLivepatch
from klpd.model import UNDECLARED, VMLINUX, Installed, Leftover, Stack, StatesSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from klpd.kernel.sysfs import LoadedModule
    from klpd.model import InstalledObject, State
    from klpd.module.origin import Origin

_LOOKS: Final = 5
_BETWEEN_LOOKS: Final = 0.02


class Memory(Protocol):
    """A reader of the kernel's list of livepatches (klpd.kernel.memory)."""

    def read_patches(self) -> tuple[MemoryLivepatch, ...]: ...


class Known(Protocol):
    """Tells what is known of the file that a loaded livepatch came from, by name and build id."""

    def __call__(self, name: str, build_id: str, /) -> Origin | None: ...


def read_stack(
    memory: Memory | None, known: Known, *, generation: int = 0, epoch: int = 0, root: Path = sysfs.ROOT
) -> Stack:
    """The stack of the running kernel.

    A livepatch has an entry in sysfs before it is certain that it can be installed (klp_init_patch in
    kernel/livepatch/core.c), and for a moment after it has gone: which are in force is told by the kernel's own list.
    `memory` is None where that cannot be read; the states then come from the files that `known` finds, and the order
    from sysfs where the kernel shows it.  Raises KernelError where sysfs cannot be read.
    """
    look = _look(memory, root)
    for _again in range(_LOOKS):
        if look.steady:
            break
        time.sleep(_BETWEEN_LOOKS)
        look = _look(memory, root)
    modules = sysfs.read_modules(root)
    return Stack(
        livepatches=tuple(_installed(each, known, modules, root) for each in look.in_force),
        leftovers=tuple(_leftovers(modules, look.names, root)),
        kernel_release=os.uname().release,
        readable=memory is not None,
        generation=generation,
        epoch=epoch,
        steady=look.steady,
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """A livepatch in force, by what sysfs shows of it and what the kernel's list says; one of them may be missing."""

    shown: SysfsLivepatch | None
    listed: MemoryLivepatch | None

    @property
    def name(self) -> str:
        source = self.listed or self.shown
        assert source is not None
        return source.name


@dataclass(frozen=True, slots=True)
class _Look:
    """Those in force, in their order; and the names of all that were to be seen, in force or not."""

    in_force: tuple[_Seen, ...]
    names: frozenset[str]
    steady: bool


def _look(memory: Memory | None, root: Path) -> _Look:
    shown = {each.name: each for each in sysfs.read_livepatches(root)}
    if memory is None:
        ordered = sorted(shown.values(), key=lambda each: each.stack_order or len(shown))
        counted = tuple(_Seen(each, None) for each in ordered if each.enabled or each.transition)
        return _Look(counted, frozenset(shown), steady=len(counted) == len(shown))
    listed = memory.read_patches()
    counted = tuple(_Seen(shown.get(each.name), each) for each in listed if each.in_force)
    return _Look(
        counted,
        frozenset(shown) | {each.name for each in listed},
        steady={each.name for each in counted} == set(shown),
    )


def _installed(seen: _Seen, known: Known, modules: tuple[LoadedModule, ...], root: Path) -> Installed:
    shown, detail, name = seen.shown, seen.listed, seen.name
    build_id = sysfs.read_build_id(name, root) if shown is None else shown.build_id
    file = None if build_id is None else known(name, build_id)
    states, source = _states(detail, file)
    cumulative = None if shown is None else shown.replace
    if cumulative is None and detail is not None:
        cumulative = detail.replace
    if cumulative is None and file is not None:
        cumulative = file.replace
    current = detail or shown
    assert current is not None
    return Installed(
        name=name,
        enabled=current.enabled,
        transition=current.transition,
        replace=cumulative,
        forced=None if detail is None else detail.forced,
        states=states,
        states_source=source,
        objects=() if shown is None else tuple(_with_patched(each, detail, modules) for each in shown.objects),
        build_id=build_id,
        digest=None if file is None else file.digest,
        restores=None if file is None else file.restores,
        declared=UNDECLARED if file is None else file.declared,
        signature=None if file is None else file.signature,
        kernel_verified=read_verified(name, root),
    )


def _with_patched(
    shown: InstalledObject, listed: MemoryLivepatch | None, modules: tuple[LoadedModule, ...]
) -> InstalledObject:
    """Whether the object is patched where sysfs does not tell (before Linux 6.1).

    A module is as soon as it is there, since it is not let in else (klp_module_coming in kernel/livepatch/core.c).
    """
    if shown.patched is not None:
        return shown
    if shown.name != VMLINUX:
        return replace(shown, patched=any(each.name == shown.name and each.live for each in modules))
    misnamed = None if listed is None else listed.misnamed
    return replace(shown, patched=None if misnamed is None else not misnamed)


def _states(detail: MemoryLivepatch | None, file: Origin | None) -> tuple[tuple[State, ...] | None, StatesSource]:
    if detail is not None and detail.states is not None:
        return detail.states, StatesSource.MEMORY
    if file is not None and file.states is not None:
        return file.states, StatesSource.FILE
    return None, StatesSource.NOWHERE


def _leftovers(modules: tuple[LoadedModule, ...], livepatches: frozenset[str], root: Path) -> Iterator[Leftover]:
    for module in modules:
        # One that is not live is being loaded, or unloaded: nobody has left it over.
        if module.is_livepatch and module.live and module.name not in livepatches:
            # klp_free_patch_finish drops the last reference unless the transition was forced.
            yield Leftover(module.name, module.references == 0, sysfs.read_build_id(module.name, root))
