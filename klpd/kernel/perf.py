# SPDX-License-Identifier: GPL-2.0-or-later
"""perf_event_open(2), for an event that counts nothing: its being there is all that klpd needs of it."""

from __future__ import annotations

import ctypes
import platform
import struct
from typing import Final

from klpd.errors import KernelError

# include/uapi/linux/perf_event.h
_PERF_TYPE_SOFTWARE: Final = 1
_PERF_COUNT_SW_DUMMY: Final = 9
_PERF_ATTR_SIZE_VER0: Final = 64
_PERF_ATTR_DISABLED: Final = 1
_PERF_FLAG_FD_CLOEXEC: Final = 8
_ATTRIBUTES: Final = struct.Struct("=IIQ8x8x8xQ16x")  # type, size, config, sample period and type, read format, flags
_ALL_TASKS: Final = -1
_FIRST_PROCESSOR: Final = 0
_NO_GROUP: Final = -1

# arch/*/include/uapi/asm/unistd.h
_SYSTEM_CALL: Final = {"x86_64": 298, "ppc64le": 319, "s390x": 331}
_SYSTEM_CALL_OTHERS: Final = 241  # include/uapi/asm-generic/unistd.h


def dummy_event() -> int:
    """The descriptor of such an event.  Raises KernelError: EACCES, EPERM without CAP_PERFMON; ENOSYS without perf."""
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = _ATTRIBUTES.pack(_PERF_TYPE_SOFTWARE, _PERF_ATTR_SIZE_VER0, _PERF_COUNT_SW_DUMMY, _PERF_ATTR_DISABLED)
    number = _SYSTEM_CALL.get(platform.machine(), _SYSTEM_CALL_OTHERS)
    fd = int(
        libc.syscall(
            ctypes.c_long(number),
            attributes,
            ctypes.c_int(_ALL_TASKS),
            ctypes.c_int(_FIRST_PROCESSOR),
            ctypes.c_int(_NO_GROUP),
            ctypes.c_ulong(_PERF_FLAG_FD_CLOEXEC),
        )
    )
    if fd < 0:
        raise KernelError("perf_event_open", ctypes.get_errno())
    return fd
