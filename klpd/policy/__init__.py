# SPDX-License-Identifier: GPL-2.0-or-later
"""Policy files: which of them count, what is wrong with them, and the Policy that they make (klpd-policy(5))."""

from __future__ import annotations

from klpd.policy.dropins import find_files
from klpd.policy.read import check_file, check_policy, read_policy

__all__ = ["check_file", "check_policy", "find_files", "read_policy"]
