# SPDX-License-Identifier: GPL-2.0-or-later
"""Files as they are handed over on the bus: open descriptors, with names for messages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from gi.repository import Gio, GLib

from klpd.ctl.files import STANDARD_INPUT, name_of, open_file
from klpd.plain import to_utf8
from klpd.policy.beside import open_beside
from klpd.report import MANIFESTS

if TYPE_CHECKING:
    from collections.abc import Sequence


class Handed(NamedTuple):
    """The module files of a call, each an index into `descriptors` and a name, and the manifests among its options."""

    descriptors: Gio.UnixFDList
    files: list[tuple[int, str]]
    options: dict[str, GLib.Variant]


def hand_over(files: Sequence[str]) -> Handed:
    """Open module files, and the manifests that lie beside them.

    Raises UsageError where a file cannot be opened, PolicyError where a manifest cannot.
    """
    descriptors = Gio.UnixFDList.new()
    handed = [_hand_over(open_file(each), name_of(each), descriptors) for each in files]
    manifests = []
    for each in files:
        beside = None if each == STANDARD_INPUT else open_beside(each)
        if beside is not None:
            manifests.append(_hand_over(*beside, descriptors))
    options = {MANIFESTS: GLib.Variant("a(hs)", manifests)} if manifests else {}
    return Handed(descriptors, handed, options)


def _hand_over(fd: int, name: str, descriptors: Gio.UnixFDList) -> tuple[int, str]:
    """Put a descriptor, which is closed here, into a message's list: its index and its name."""
    try:
        return descriptors.append(fd), to_utf8(name)
    finally:
        os.close(fd)
