# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to built modules that no compiler makes."""

from __future__ import annotations

import re


def for_other_kernel(module: bytes) -> bytes:
    """The module with another release in its vermagic, of the same length, that no kernel has."""
    changed, count = re.subn(rb"(?<=\0vermagic=)\d", b"0", module)
    if count != 1:
        raise ValueError(f"{count} vermagic tags in .modinfo, not one")
    return changed
