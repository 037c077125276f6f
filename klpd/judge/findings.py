# SPDX-License-Identifier: GPL-2.0-or-later
"""How a finding that refuses is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.model import Decision, Finding

if TYPE_CHECKING:
    from klpd.model import Rule


def deny(code: str, rule: Rule, message: str, remedy: str, *, state: int | None = None) -> Finding:
    """A finding that refuses an action."""
    return Finding(Decision.DENY, code, rule, message, remedy, state=state)
