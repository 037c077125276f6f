# SPDX-License-Identifier: GPL-2.0-or-later
"""Changes to built modules that no compiler makes."""

from __future__ import annotations

import re
from typing import Final

_VERMAGIC: Final = re.compile(rb"(?<=\0vermagic=)\d")
# include/linux/vermagic.h
_WITH_CHECKSUMS: Final = re.compile(rb"\0vermagic=[^\0]* modversions ")
# struct modversion_info (include/linux/module.h) of a symbol that every module has
_LAYOUT_CRC: Final = re.compile(rb".(?=.{7}module_layout\0)", re.DOTALL)


def for_other_kernel(module: bytes) -> bytes:
    """The module as if built for another kernel: another release in its vermagic, of the same length, and another ABI.

    With CONFIG_MODVERSIONS, which Debian's kernels have left out since 7.x, the kernel passes over the release
    (kernel/module/version.c, same_magic) and relies on the ABI checksums.
    """
    changed, releases = _VERMAGIC.subn(b"0", module)
    changed, checksums = _LAYOUT_CRC.subn(lambda crc: bytes([crc[0][0] ^ 1]), changed)
    expected = int(_WITH_CHECKSUMS.search(module) is not None)
    if (releases, checksums) != (1, expected):
        raise ValueError(f"{releases} vermagic tags and {checksums} checksums of module_layout, not 1 and {expected}")
    return changed
