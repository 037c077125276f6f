# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to built modules that no compiler makes."""

from __future__ import annotations

import re
from typing import Final

_VERMAGIC: Final = re.compile(rb"(?<=\0vermagic=)\d")
# struct modversion_info (include/linux/module.h) of a symbol that every module has
_LAYOUT_CRC: Final = re.compile(rb".(?=.{7}module_layout\0)", re.DOTALL)


def for_other_kernel(module: bytes) -> bytes:
    """The module as if built for another kernel: another release in its vermagic, of the same length, and another ABI.

    With CONFIG_MODVERSIONS the kernel passes over the release (kernel/module/version.c, same_magic) and relies on the
    ABI checksums.
    """
    changed, releases = _VERMAGIC.subn(b"0", module)
    changed, checksums = _LAYOUT_CRC.subn(lambda crc: bytes([crc[0][0] ^ 1]), changed)
    if (releases, checksums) != (1, 1):
        raise ValueError(f"{releases} vermagic tags and {checksums} checksums of module_layout, not one of each")
    return changed
