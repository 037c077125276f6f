# SPDX-License-Identifier: GPL-2.0-or-later
"""Loading and removing modules: finit_module(2) of a sealed memfd, delete_module(2) without force."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import platform
from typing import TYPE_CHECKING, Final

from klpd.errors import KernelError
from klpd.kernel.switches import modules_are_disabled
from klpd.kernel.sysfs import ROOT

if TYPE_CHECKING:
    from pathlib import Path

# The calls have no number in Python: arch/*/include/generated/uapi/asm/unistd_64.h and syscall tables.
_FINIT_MODULE: Final = {"x86_64": 313, "aarch64": 273, "riscv64": 273, "ppc64le": 353, "s390x": 344}
# Of 32-bit programs (and x32's); a 64-bit kernel has no other call of these numbers.
_FINIT_MODULE_COMPAT: Final = {"x86_64": {350, 0x40000000 + 313}, "aarch64": {379}}
_DELETE_MODULE: Final = {"x86_64": 176, "aarch64": 106, "riscv64": 106, "ppc64le": 129, "s390x": 129}
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def finit_module_numbers() -> frozenset[int]:
    """The numbers by which programs of any kind call finit_module(2) on this machine."""
    machine = platform.machine()
    return frozenset({_FINIT_MODULE[machine], *_FINIT_MODULE_COMPAT.get(machine, ())})


def load_module(data: bytes, name: str, parameters: str = "") -> None:
    """Load the module whose file has these very bytes; `name` is for messages only.

    Raises KernelError: EPERM where the guard refuses it, EINVAL or EBUSY from klp_enable_patch, EEXIST where a module
    of that name is loaded, ENOEXEC for another kernel's module.
    """
    fd = os.memfd_create(f"klpd:{name}"[:200], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        _syscall(f"cannot load {name}", _FINIT_MODULE, fd, parameters.encode(), 0)
    finally:
        os.close(fd)


def remove_module(name: str) -> None:
    """Remove a loaded module.  O_NONBLOCK and never O_TRUNC: a forced removal would take a pinned livepatch's code.

    Raises KernelError: EWOULDBLOCK (EAGAIN) while it is in use, ENOENT where it is not loaded.
    """
    _syscall(f"cannot remove module {name}", _DELETE_MODULE, name.encode(), os.O_NONBLOCK)


def _syscall(what: str, numbers: dict[str, int], *arguments: int | bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    converted = [ctypes.c_char_p(each) if isinstance(each, bytes) else ctypes.c_long(each) for each in arguments]
    if libc.syscall(ctypes.c_long(numbers[platform.machine()]), *converted) != 0:
        code = ctypes.get_errno()
        raise KernelError(f"{what}{hint(code)}", code)


def hint(code: int, root: Path = ROOT) -> str:
    """What an error of loading or removing comes of, to be put after what was tried; empty where it tells enough."""
    if code == errno.EPERM and modules_are_disabled(root):
        return " while kernel.modules_disabled is 1, which it is until the next boot"
    return ""
