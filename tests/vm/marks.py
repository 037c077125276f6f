# SPDX-License-Identifier: GPL-2.0-or-later
"""Marks for tests on more than the usual host, and for those that are not run each time."""

from __future__ import annotations

from typing import Final

import pytest

from tests.vm.kernel import KERNELS, STOCK

extended: Final = pytest.mark.extended
"""Run by `make test-all` only: emulation takes its time."""

on_every_kernel: Final = pytest.mark.parametrize(
    "kernel",
    [pytest.param(each, id=name, marks=() if each is STOCK else extended) for name, each in KERNELS.items()],
)
"""Run on each kernel: for what a kernel decides by its version or its configuration."""
