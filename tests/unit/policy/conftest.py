# SPDX-License-Identifier: GPL-2.0-or-later
"""A made-up root directory with policy files in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.policy.site import Site

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)
