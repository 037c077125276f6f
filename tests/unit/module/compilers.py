# SPDX-License-Identifier: GPL-2.0-or-later
"""example.c, compiled for several machines."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path
from typing import Final

_SOURCE: Final = Path(__file__).parent / "example.c"

COMPILERS: Final = {
    "x86_64": ("gcc", "-mcmodel=kernel"),
    "aarch64": ("aarch64-linux-gnu-gcc",),
    "s390x": ("s390x-linux-gnu-gcc",),
    "ppc64le": ("powerpc64le-linux-gnu-gcc",),
    "ppc64le, by clang": ("clang", "--target=powerpc64le-linux-gnu"),
}
"""Little and big endian, with relocations that say symbol + 0 as well as section + offset."""


@functools.cache
def example(machine: str = "x86_64", *macros: str) -> bytes:
    """example.c for `machine`, with these macros defined."""
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / "example.ko"
        subprocess.run(
            [
                *COMPILERS[machine],
                *("-c", "-O2", "-ffreestanding", "-fno-pic", "-fno-common", "-fno-asynchronous-unwind-tables"),
                *(f"-D{each}" for each in macros),
                *("-o", module, _SOURCE),
            ],
            check=True,
        )
        return module.read_bytes()
