# SPDX-License-Identifier: GPL-2.0-or-later
"""The build id of a module file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from klpd.buildid import parse_build_id
from klpd.errors import ModuleFormatError

if TYPE_CHECKING:
    from klpd.module.elf import Elf


def read_build_id(elf: Elf) -> str | None:
    """The build id in hex, or None where the module has none.

    Raises ModuleFormatError where its note is not one whole note of that kind.
    """
    section = next(elf.named(b".note.gnu.build-id"), None)
    if section is None or section.size == 0:
        return None
    try:
        return parse_build_id(elf.content(section), elf.order)
    except ValueError as error:
        raise ModuleFormatError(str(error)) from error
