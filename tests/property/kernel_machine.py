# SPDX-License-Identifier: GPL-2.0-or-later
"""What the kernel does with livepatches, told anew step by step after its source and without any use of klpd's model.

It is the oracle for the model and the judge: it has no rules to look up and no states in force, only the lists, flags
and references that kernel/livepatch/{core,state,transition}.c of 6.1 keep, and answers with errno values.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from klpd.model import Disable, Force, Installed, Leftover, Livepatch, Load, Remove, Reverse, Stack

if TYPE_CHECKING:
    from klpd.model import Action


@dataclass(eq=False)
class Patch:
    """A struct klp_patch, with the reference that its module is held by."""

    module: Livepatch
    enabled: bool = False
    forced: bool = False
    held: bool = True

    @property
    def name(self) -> str:
        return self.module.name

    @property
    def replace(self) -> bool:
        assert self.module.replace is not None
        return self.module.replace

    @property
    def array(self) -> list[tuple[int, int]]:
        """The members of klp_patch.states up to the end mark, which is an entry with id 0."""
        return [(each.id, each.version) for each in self.module.states or ()]


@dataclass
class KernelMachine:
    """klp_patches, klp_transition_patch, klp_target_state and the list of modules."""

    release: str
    patches: list[Patch] = field(default_factory=list)
    modules: dict[str, Patch] = field(default_factory=dict)
    moving: Patch | None = None
    to_patched: bool = False

    def finit_module(self, module: Livepatch) -> int:
        """add_unformed_module, then the module's init: klp_enable_patch."""
        if module.name in self.modules:
            return errno.EEXIST
        patch = Patch(module)
        if not is_patch_compatible(patch, self.patches):
            return errno.EINVAL
        if self.moving is not None:
            return errno.EBUSY
        self.modules[module.name] = patch
        self.patches.append(patch)
        patch.enabled = True
        self.moving, self.to_patched = patch, True
        return 0

    def write_enabled(self, name: str, value: bool) -> int:
        """enabled_store; the file is there for the patches of the list only."""
        patch = next((each for each in self.patches if each.name == name), None)
        if patch is None:
            return errno.ENOENT
        if patch.enabled == value:
            return errno.EINVAL
        if patch is self.moving:  # klp_reverse_transition
            patch.enabled = not patch.enabled
            self.to_patched = not self.to_patched
            return 0
        if value:
            return errno.EINVAL
        if self.moving is not None:  # __klp_disable_patch
            return errno.EBUSY
        patch.enabled = False
        self.moving, self.to_patched = patch, False
        return 0

    def write_force(self, name: str) -> int:
        """force_store, klp_force_transition: what is about to go keeps its module for good (since 5.19)."""
        if self.moving is None or self.moving.name != name:
            return errno.EINVAL
        if not self.to_patched:
            self.moving.forced = True
        elif self.moving.replace:
            for patch in self.patches:
                if patch is not self.moving:
                    patch.forced = True
        return 0

    def complete(self) -> None:
        """klp_try_complete_transition, when the last task has switched."""
        patch, self.moving = self.moving, None
        if patch is None:
            return
        if not patch.enabled:
            self._free(patch)
        elif patch.replace:
            while self.patches[0] is not patch:
                self._free(self.patches[0])

    def delete_module(self, name: str) -> int:
        patch = self.modules.get(name)
        if patch is None:
            return errno.ENOENT
        if patch.held:
            return errno.EWOULDBLOCK
        del self.modules[name]
        return 0

    def look(self) -> Stack:
        """What a perfect reader sees."""
        listed = {each.name for each in self.patches}
        return Stack(
            livepatches=tuple(self._seen(each) for each in self.patches),
            leftovers=tuple(
                Leftover(each.name, removable=not each.held, build_id=each.module.build_id)
                for each in self.modules.values()
                if each.name not in listed
            ),
            kernel_release=self.release,
        )

    def _free(self, patch: Patch) -> None:
        self.patches.remove(patch)
        patch.enabled = False
        if not patch.forced:
            patch.held = False

    def _seen(self, patch: Patch) -> Installed:
        file = Installed.expected(patch.module)
        return Installed(
            name=patch.name,
            enabled=patch.enabled,
            transition=patch is self.moving,
            replace=patch.replace,
            forced=patch.forced,
            states=file.states,
            states_source=file.states_source,
            objects=file.objects,
            build_id=file.build_id,
            digest=file.digest,
            restores=file.restores,
        )


def is_patch_compatible(new: Patch, installed: list[Patch]) -> bool:
    """klp_is_patch_compatible: the new livepatch has to cope with each state of each livepatch in the list.

    It does with a state that it carries itself, in the same or a later version.  One that it does not carry is no
    matter to a livepatch that leaves the others in place, and an obstacle to one that replaces them.
    """
    for old in installed:
        for wanted_id, least_version in old.array:
            own_version = None
            for own_id, version in new.array:
                if own_id == wanted_id:
                    own_version = version
                    break
            if own_version is None:
                if new.replace:
                    return False
            elif own_version < least_version:
                return False
    return True


def perform(kernel: KernelMachine, action: Action) -> int | None:
    """Ask the kernel for `action`; None where there is no such request: what it asks of sysfs means another action."""
    moving = None if kernel.moving is None else kernel.moving.name
    match action:
        case Load(livepatch):
            return kernel.finit_module(livepatch)
        case Disable(name):
            return None if name == moving else kernel.write_enabled(name, False)
        case Reverse(name):
            return kernel.write_enabled(name, not kernel.moving.enabled) if kernel.moving and name == moving else None
        case Force(name):
            return kernel.write_force(name)
        case Remove(name):
            return kernel.delete_module(name)
