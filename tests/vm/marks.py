# SPDX-License-Identifier: GPL-2.0-or-later
"""Marks for tests on more than the usual host, and for those that are not run each time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.vm.kernel import BACKPORT, KERNELS, NEWEST, STOCK

if TYPE_CHECKING:
    from tests.vm.kernel import Kernel

extended: Final = pytest.mark.extended
"""Run by `make test-all` only: emulation takes its time."""


def _on(*kernels: Kernel) -> pytest.MarkDecorator:
    names = {kernel: name for name, kernel in KERNELS.items()}
    marked = [pytest.param(each, id=names[each], marks=() if each is STOCK else extended) for each in kernels]
    return pytest.mark.parametrize("kernel", marked)


on_every_kernel: Final = _on(STOCK, BACKPORT)
"""Run on each kernel of Debian 12: for what a kernel decides by its version or its configuration."""

on_the_newest_too: Final = _on(STOCK, BACKPORT, NEWEST)
"""Run on Debian 13's backports' as well: for the few tests that tell most of whether klpd works there."""
