# SPDX-License-Identifier: GPL-2.0-or-later
"""klpd: livepatch policy for running Linux kernels."""

from __future__ import annotations

from typing import Final

__version__: Final = "0.1.0"
