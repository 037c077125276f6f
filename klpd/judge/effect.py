# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a livepatch that is in force has no effect: a module that it patches is not there, or never will be."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from klpd.model import Installed, InstalledObject


def waits_for(livepatch: Installed) -> tuple[str, ...]:
    """The modules that it patches as soon as they come, by what the kernel tells of its objects."""
    return tuple(each.name for each in _unpatched(livepatch) if not each.misnamed)


def never_patches(livepatch: Installed) -> bool:
    """Whether it waits for a module that is named like the kernel itself."""
    return any(each.misnamed for each in _unpatched(livepatch))


def effect_told(livepatch: Installed) -> Iterator[str]:
    """Sentences on where it has no effect; none where it is in effect in all that it patches, or that is unknown."""
    if never_patches(livepatch):
        yield f'{livepatch.name} has no effect in the kernel itself: no module comes that is named "vmlinux"'
    if modules := waits_for(livepatch):
        yield f"{livepatch.name} waits for {', '.join(modules)}, not loaded now, to take effect there"


def _unpatched(livepatch: Installed) -> Iterator[InstalledObject]:
    if livepatch.enabled:
        yield from (each for each in livepatch.objects if each.patched is False)
