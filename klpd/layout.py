# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the members of the kernel's livepatch structures are, in bytes: what a module's data is read by.

The kernel that a module is for decides that.  What include/linux/livepatch.h calls external has stood where the
defaults say since Linux 5.4, which brought the states; whoever can ask that kernel (klpd/kernel/layouts.py) knows
better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from klpd.model import Callback

CALLBACKS: Final = (
    (Callback.PRE_PATCH, 16),
    (Callback.POST_PATCH, 24),
    (Callback.PRE_UNPATCH, 32),
    (Callback.POST_UNPATCH, 40),
)
"""In struct klp_object, and in struct klp_object_ext, which begin alike."""


@dataclass(frozen=True, slots=True)
class PatchLayout:
    """Of struct klp_patch.  None is what this kernel does not have, or has as something else."""

    mod: int = 0
    objs: int = 8
    states: int | None = 16
    replace: int | None = 24
    size: int | None = None


@dataclass(frozen=True, slots=True)
class ObjectLayout:
    """Of struct klp_object.  `callbacks` is None where this kernel has them some other way."""

    name: int = 0
    funcs: int = 8
    callbacks: tuple[tuple[Callback, int], ...] | None = CALLBACKS
    size: int | None = None


@dataclass(frozen=True, slots=True)
class FunctionLayout:
    """Of struct klp_func."""

    old_name: int = 0
    new_func: int = 8
    old_sympos: int = 16
    size: int | None = None


@dataclass(frozen=True, slots=True)
class StateLayout:
    """Of struct klp_state."""

    id: int = 0
    version: int = 8
    size: int = 24


@dataclass(frozen=True, slots=True)
class Layout:
    """Of all of them.  `state` is None where this kernel's states are something else than an id and a version.

    A size that is None is not known: struct klp_object and struct klp_func contain a struct kobject, which is larger in
    kernels made for debugging (CONFIG_DEBUG_KOBJECT_RELEASE).
    """

    patch: PatchLayout = PatchLayout()
    object: ObjectLayout = ObjectLayout()
    function: FunctionLayout = FunctionLayout()
    state: StateLayout | None = StateLayout()


@dataclass(frozen=True, slots=True)
class KernelLayout:
    """The layout in some kernel, and how it is known, for people.

    `layout` is None where that kernel's structures are not those that klpd understands: nothing can be read by them.
    """

    layout: Layout | None
    source: str


Layouts = Callable[[str, str], KernelLayout]
"""Gives the layout in the kernel of that release for that machine (e_machine, as in "EM_X86_64")."""

KNOWN: Final = KernelLayout(Layout(), "known since Linux 5.4")


def known_layout(_release: str, _machine: str) -> KernelLayout:
    """What is known without asking a kernel."""
    return KNOWN
