# SPDX-License-Identifier: GPL-2.0-or-later
"""The test livepatches, built."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.livepatches.build import build

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def modules() -> dict[str, Path]:
    """Name -> file."""
    return build()
