# SPDX-License-Identifier: GPL-2.0-or-later
"""Marks for tests on more than the usual host."""

from __future__ import annotations

from typing import Final

import pytest

from tests.vm.kernel import KERNELS

on_every_kernel: Final = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)
"""Run on each kernel: for what a kernel decides by its version or its configuration."""
