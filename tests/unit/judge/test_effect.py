# SPDX-License-Identifier: GPL-2.0-or-later
"""Where a livepatch in force has no effect is told from what the kernel says of its objects."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from klpd.judge.effect import effect_told, never_patches, waits_for
from klpd.model import VMLINUX, InstalledObject
from tests.builders import installed

if TYPE_CHECKING:
    from klpd.model import Installed


def patching(*, enabled: bool = True, **patched: bool | None) -> Installed:
    objects = tuple(InstalledObject(name, (), each) for name, each in patched.items())
    return replace(installed("new", enabled=enabled), objects=objects)


@pytest.mark.parametrize(
    ("livepatch", "modules", "never"),
    [
        (patching(vmlinux=True, one=True), (), False),
        (patching(vmlinux=True, one=False, two=False), ("one", "two"), False),
        (patching(vmlinux=False), (), True),
        (patching(vmlinux=False, one=False), ("one",), True),
        (patching(vmlinux=None, one=None), (), False),
        # one that is on its way out waits for nothing
        (patching(vmlinux=False, one=False, enabled=False), (), False),
    ],
)
def test_what_is_not_patched_waits_for_its_module_or_for_one_that_never_comes(
    livepatch: Installed, modules: tuple[str, ...], never: bool
) -> None:
    assert (waits_for(livepatch), never_patches(livepatch)) == (modules, never)
    assert len(list(effect_told(livepatch))) == bool(modules) + never
    assert VMLINUX not in modules
