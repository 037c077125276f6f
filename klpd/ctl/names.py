# SPDX-License-Identifier: GPL-2.0-or-later
"""What a site calls its states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from klpd.judge.rules import Policy
    from klpd.report import PolicyReport

Names = Mapping[int, str]
"""State id -> the policy's name for it; ids without a name are absent."""


def names_told(policy: PolicyReport) -> Names:
    """The names that klpd tells of the policy in force."""
    return {each.id: each.name for each in policy.names}


def names_of(policy: Policy) -> Names:
    """The names that a policy gives."""
    return {each.id: each.name for each in policy.states.values() if each.name is not None}
