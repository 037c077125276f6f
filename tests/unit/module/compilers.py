# SPDX-License-Identifier: GPL-2.0-or-later
"""example.c, compiled for several machines."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klpd.kernel.btf import read_structs
from klpd.kernel.layouts import STRUCTS, understood

if TYPE_CHECKING:
    from klpd.layout import KernelLayout

_SOURCE: Final = Path(__file__).parent / "example.c"

COMPILERS: Final = {
    "x86_64": ("gcc", "-mcmodel=kernel", "-mno-sse"),
    "aarch64": ("aarch64-linux-gnu-gcc",),
    "s390x": ("s390x-linux-gnu-gcc",),
    "ppc64le": ("powerpc64le-linux-gnu-gcc",),
    "ppc64le, by clang": ("clang", "--target=powerpc64le-linux-gnu"),
}
"""Little and big endian, with relocations that say symbol + 0 as well as section + offset."""


# Its object files have BTF, of all 64 bit machines' layout.
_BTF: Final = ("clang", "--target=bpf", "-g")


@functools.cache
def example(machine: str = "x86_64", *macros: str) -> bytes:
    """example.c for `machine`, with these macros defined."""
    return _compiled(COMPILERS[machine], macros)


@functools.cache
def layout(*macros: str) -> KernelLayout:
    """That of example.c's structures, with these macros defined, as the BTF of such a kernel tells it."""
    with tempfile.TemporaryDirectory() as folder:
        kernel = Path(folder) / "vmlinux"
        kernel.write_bytes(_compiled(_BTF, macros))
        return understood(read_structs(kernel, STRUCTS), "BTF")


def _compiled(compiler: tuple[str, ...], macros: tuple[str, ...]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder) / "example.ko"
        subprocess.run(
            [
                *compiler,
                *("-c", "-O2", "-ffreestanding", "-fno-pic", "-fno-common", "-fno-asynchronous-unwind-tables"),
                *(f"-D{each}" for each in macros),
                *("-o", module, _SOURCE),
            ],
            check=True,
        )
        return module.read_bytes()
