# SPDX-License-Identifier: GPL-2.0-or-later
"""How hypothesis runs here: without a clock, since the machine may be busy, and briefly."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("klpd", deadline=None, max_examples=60)
settings.load_profile("klpd")
