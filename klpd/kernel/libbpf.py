# SPDX-License-Identifier: GPL-2.0-or-later
"""libbpf.so.1 by ctypes: as much of it as the guard and the readers of kernel memory need.

Functions of libbpf 1.x that return a pointer return NULL and set errno on failure, those that return an int return
-errno.  Either becomes a KernelError here, with the warnings that libbpf printed on the way.
"""

from __future__ import annotations

import ctypes
import logging
import threading
from collections import deque
from ctypes import CFUNCTYPE, c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Final, NamedTuple

from klpd.errors import GuardError, KernelError

log = logging.getLogger(__name__)

_LIBBPF_WARN: Final = 0  # enum libbpf_print_level
_SONAME: Final = "libbpf.so.1"
_MOST_WARNINGS: Final = 4
"""A refused program's warning has the verifier's whole log in one; the last lines say why."""

_PRINT: Final = CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)

RingSample: Final = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)
"""ring_buffer_sample_fn: context, data, size; a negative result stops the consumer."""


class _Function(NamedTuple):
    result: type[c_int | c_uint32 | c_void_p] | None
    arguments: tuple[type, ...]


_FUNCTIONS: Final = {
    # The previous printer.
    "libbpf_set_print": _Function(c_void_p, (_PRINT,)),
    # bpf/libbpf.h: objects.  ENOENT: no such file; EINVAL or LIBBPF_ERRNO__FORMAT: no BPF object.
    "bpf_object__open_file": _Function(c_void_p, (c_char_p, c_void_p)),
    # EPERM: no CAP_BPF, or locked down; EINVAL, EACCES: refused by the verifier; ESRCH: no such symbol or hook.
    "bpf_object__load": _Function(c_int, (c_void_p,)),
    "bpf_object__close": _Function(None, (c_void_p,)),
    # ENOENT: the object has none of that name.
    "bpf_object__find_program_by_name": _Function(c_void_p, (c_void_p, c_char_p)),
    "bpf_object__find_map_fd_by_name": _Function(c_int, (c_void_p, c_char_p)),
    # EINVAL: the object is loaded already.
    "bpf_program__set_autoload": _Function(c_int, (c_void_p, ctypes.c_bool)),
    "bpf_program__fd": _Function(c_int, (c_void_p,)),
    # By the program's section name: a struct bpf_link.  EBUSY: too many on one hook; ENOTSUPP: cannot be traced.
    "bpf_program__attach": _Function(c_void_p, (c_void_p,)),
    "bpf_link__fd": _Function(c_int, (c_void_p,)),
    # Detaches, unless the link is pinned or another descriptor of it is open.
    "bpf_link__destroy": _Function(c_int, (c_void_p,)),
    # bpf/bpf.h: pins.  EEXIST; ENOENT; EPERM: not a bpffs.
    "bpf_obj_pin": _Function(c_int, (c_int, c_char_p)),
    "bpf_obj_get": _Function(c_int, (c_char_p,)),
    # Maps.  ENOENT: no such key; E2BIG: the map is full.
    "bpf_map_lookup_elem": _Function(c_int, (c_int, c_void_p, c_void_p)),
    "bpf_map_update_elem": _Function(c_int, (c_int, c_void_p, c_void_p, c_uint64)),
    "bpf_map_delete_elem": _Function(c_int, (c_int, c_void_p)),
    "bpf_map_get_next_key": _Function(c_int, (c_int, c_void_p, c_void_p)),
    # EFAULT, or EINVAL where the kernel's structure is shorter and has bytes set beyond: never here.
    "bpf_obj_get_info_by_fd": _Function(c_int, (c_int, c_void_p, c_void_p)),
    # ENOENT: gone since.
    "bpf_prog_get_fd_by_id": _Function(c_int, (c_uint32,)),
    "bpf_map_get_fd_by_id": _Function(c_int, (c_uint32,)),
    # EINVAL: not a program that can be run so.
    "bpf_prog_test_run_opts": _Function(c_int, (c_int, c_void_p)),
    "bpf_iter_create": _Function(c_int, (c_int,)),
    # EPERM: another program is attached to the cgroup that tolerates no others; EINVAL: the kernel has no such type.
    "bpf_link_create": _Function(c_int, (c_int, c_int, c_int, c_void_p)),
    # bpf/btf.h.  ESRCH, ENOENT: the kernel has no BTF, or no such type in it.
    "btf__load_vmlinux_btf": _Function(c_void_p, ()),
    # Of a file that is BTF, or an ELF file that has it.  ENODATA: it has none; EINVAL: it is neither.
    "btf__parse": _Function(c_void_p, (c_char_p, c_void_p)),
    "btf__type_cnt": _Function(c_uint32, (c_void_p,)),
    # Into what libbpf keeps, until that is freed.  EINVAL: out of range.
    "btf__type_by_id": _Function(c_void_p, (c_void_p, c_uint32)),
    "btf__name_by_offset": _Function(c_void_p, (c_void_p, c_uint32)),
    "btf__find_by_name_kind": _Function(c_int, (c_void_p, c_char_p, c_uint32)),
    "btf__free": _Function(None, (c_void_p,)),
    # bpf/libbpf.h: ring buffers.  EINVAL: not a ring buffer's map.
    "ring_buffer__new": _Function(c_void_p, (c_int, RingSample, c_void_p, c_void_p)),
    "ring_buffer__epoll_fd": _Function(c_int, (c_void_p,)),
    "ring_buffer__consume": _Function(c_int, (c_void_p,)),
    "ring_buffer__free": _Function(None, (c_void_p,)),
}


class _Library:
    """The library, with the warnings of the calls made since a thread last asked for them."""

    def __init__(self) -> None:
        try:
            self._dll = ctypes.CDLL(_SONAME, use_errno=True)
            for name, function in _FUNCTIONS.items():
                entry = getattr(self._dll, name)
                entry.restype = function.result
                entry.argtypes = function.arguments
        except (OSError, AttributeError) as error:
            hint = "install libbpf1 (Debian) or libbpf (Fedora)"
            raise GuardError(f"libbpf 1.x cannot be used ({error}): {hint}") from error
        self._vsnprintf = ctypes.CDLL(None).vsnprintf
        self._vsnprintf.argtypes = (ctypes.c_char_p, c_size_t, c_char_p, c_void_p)
        self._local = threading.local()
        self._printer = _PRINT(self._print)
        self._dll.libbpf_set_print(self._printer)

    def call(self, what: str, name: str, *arguments: object) -> int:
        self._warnings().clear()
        ctypes.set_errno(0)
        result = getattr(self._dll, name)(*arguments)
        if _FUNCTIONS[name].result is c_void_p and not result:
            raise KernelError(self._explained(what), ctypes.get_errno())
        if _FUNCTIONS[name].result is c_int and result < 0:
            raise KernelError(self._explained(what), -result)
        return result or 0

    def _warnings(self) -> deque[str]:
        if not hasattr(self._local, "warnings"):
            self._local.warnings = deque(maxlen=_MOST_WARNINGS)
        warnings: deque[str] = self._local.warnings
        return warnings

    def _explained(self, what: str) -> str:
        lines = [line for warning in self._warnings() for line in warning.splitlines() if line.strip()]
        return f"{what} ({'; '.join(lines[-_MOST_WARNINGS:])})" if lines else what

    def _print(self, level: int, template: bytes, arguments: int) -> int:
        if level != _LIBBPF_WARN and not log.isEnabledFor(logging.DEBUG):
            return 0
        buffer = ctypes.create_string_buffer(1 << 16)
        self._vsnprintf(buffer, len(buffer), template, arguments)
        text = buffer.value.decode(errors="replace").rstrip()
        if level == _LIBBPF_WARN:
            self._warnings().append(text)
        log.debug("%s", text)
        return 0


@cache
def _library() -> _Library:
    return _Library()


def call(what: str, name: str, *arguments: object) -> int:
    """Call one of _FUNCTIONS.  `what` says what was tried, for the KernelError that a failure becomes.

    Raises GuardError where there is no libbpf.
    """
    return _library().call(what, name, *arguments)
