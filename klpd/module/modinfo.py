# SPDX-License-Identifier: GPL-2.0-or-later
"""The section .modinfo: NAME=VALUE strings, each ended by a NUL (include/linux/moduleparam.h, __MODULE_INFO)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from klpd.errors import ModuleFormatError
from klpd.module.elf import SHF_ALLOC

if TYPE_CHECKING:
    from klpd.module.elf import Elf

LARGEST_MODINFO: Final = 256 << 10
"""In bytes; Debian's modules have up to 76 055, and those are of drivers for many devices."""

MODULE_NAME: Final = re.compile(r"(?!\.{1,2}$)[!-.0-~]{1,55}")
"""What a module may be called: sysfs has a directory of that name, and MODULE_NAME_LEN is 56 on 64 bits."""


@dataclass(frozen=True, slots=True)
class Modinfo:
    """The tags of a module, in the order of the file.  Bytes that are no UTF-8 are shown as \\xNN."""

    tags: tuple[tuple[str, str], ...]

    def get(self, tag: str) -> str | None:
        """The first value of `tag`, which is the one that the kernel takes (kernel/module/main.c, get_modinfo)."""
        return next((value for name, value in self.tags if name == tag), None)

    @property
    def name(self) -> str:
        """The module's name.  Raises ModuleFormatError where it has none that a module could have."""
        name = self.get("name")
        if name is None:
            raise ModuleFormatError("its .modinfo does not say the module's name")
        if not MODULE_NAME.fullmatch(name):
            raise ModuleFormatError(f"its .modinfo says a name that no module can have: {name[:80]!r}")
        return name

    @property
    def depends(self) -> tuple[str, ...]:
        """The modules that it needs."""
        return tuple(name for name in (self.get("depends") or "").split(",") if name)

    @property
    def parameters(self) -> frozenset[str]:
        """The names of the module's parameters."""
        return frozenset(
            value.partition(":")[0] for name, value in self.tags if name in ("parm", "parmtype") and ":" in value
        )


def read_modinfo(elf: Elf) -> Modinfo:
    """The tags of the module.

    Raises ModuleFormatError unless there is exactly one .modinfo, of a kind that every version of the kernel reads the
    same way (klpd/kernel/bpf/recognise.h says why).
    """
    sections = list(elf.named(b".modinfo"))
    if not sections:
        raise ModuleFormatError("an ELF file, but no module: it has no section .modinfo")
    if len(sections) > 1:
        raise ModuleFormatError(f"it has {len(sections)} sections .modinfo, and kernels differ in which they read")
    (section,) = sections
    if section.type != "SHT_PROGBITS" or not section.flags & SHF_ALLOC:
        raise ModuleFormatError("its section .modinfo is not of the kind that kernels load")
    if section.size > LARGEST_MODINFO:
        raise ModuleFormatError(f"its .modinfo has {section.size} bytes, and more than {LARGEST_MODINFO} are not read")
    content = bytes(elf.content(section))
    if not content.endswith(b"\0"):
        raise ModuleFormatError("its .modinfo does not end with a NUL")
    parts = (part.decode("utf-8", "backslashreplace").partition("=") for part in content.split(b"\0"))
    return Modinfo(tuple((name, value) for name, equals, value in parts if equals))
