# SPDX-License-Identifier: GPL-2.0-or-later
"""Names out of kernel memory: C strings that any process or file may have chosen."""

from __future__ import annotations


def readable(field: bytes) -> str:
    """The string in a char array, with nothing in it that a terminal would obey."""
    text = field.split(b"\0", 1)[0].decode("utf-8", "replace")
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
