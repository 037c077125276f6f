# SPDX-License-Identifier: GPL-2.0-or-later
"""Module files: the bytes of a .ko -> klpd.model.Livepatch."""

from __future__ import annotations

from klpd.files import LARGEST_MODULE as LARGEST_FILE
from klpd.module.compression import unpack
from klpd.module.reader import read_livepatch
from klpd.module.recognise import Kind, recognise

__all__ = ["LARGEST_FILE", "Kind", "is_livepatch", "read_livepatch", "recognise", "unpack"]


def is_livepatch(data: bytes) -> bool:
    """Whether the bytes of a file are a livepatch, or an ELF file that the kernel guard may take for one."""
    return recognise(data) in (Kind.LIVEPATCH, Kind.UNCLEAR)
