# SPDX-License-Identifier: GPL-2.0-or-later
"""The formats of livepatch modules: each build system leaves what a livepatch consists of somewhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from klpd.module import klp_build, kpatch_build, static
from klpd.module.structures import Patch

if TYPE_CHECKING:
    from collections.abc import Callable

    from klpd.module.structures import Structures

_FORMATS: Final[tuple[Callable[[Structures], Patch | None], ...]] = (static.read, kpatch_build.read, klp_build.read)
"""Each gives what it knows of a module, or None for one that has nothing of its format."""


def read_patch(structures: Structures) -> Patch:
    """What is known of the livepatch that a module is.

    That is nothing where no format recognises it, and where several do: nothing tells which of them its code goes by.
    Raises ModuleFormatError for data that leads out of the file.
    """
    found = [patch for read in _FORMATS if (patch := read(structures)) is not None]
    return found[0] if len(found) == 1 else Patch()
