# SPDX-License-Identifier: GPL-2.0-or-later
"""Objects, programs, maps, links and rings of BPF, as Python has them.  Every call may raise KernelError."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from ctypes import byref, c_int, c_uint32
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from klpd.errors import KernelError
from klpd.kernel.libbpf import RingSample, call

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BTF_KIND_FUNC: Final = 12  # include/uapi/linux/btf.h
# include/uapi/linux/bpf.h
_BPF_ANY: Final = 0
_BPF_CGROUP_SYSCTL: Final = 18
_LINK_TYPE_CGROUP: Final = 3
_PROGRAM_NAME_SIZE: Final = 15  # BPF_OBJ_NAME_LEN without the NUL


# include/uapi/linux/bpf.h.  bpf_map_info: id, key_size, value_size and name; bpf_link_info: type, prog_id,
# cgroup.cgroup_id; bpf_prog_info: name, run_time_ns, run_cnt, recursion_misses, verified_insns.  The kernel takes and
# gives any length.
_MAP_INFO: Final = struct.Struct("=4xIII8x16s")
_LINK_INFO: Final = struct.Struct("=I4xI4xQ56x")
_PROGRAM_INFO: Final = struct.Struct("=64x16s112xQQQI12x")
_PROGRAM_MAPS: Final = struct.Struct("=52xIQ")  # bpf_prog_info: nr_map_ids, map_ids; both ways
_MOST_MAPS: Final = 64  # MAX_USED_MAPS in include/linux/bpf_verifier.h
# bpf/bpf.h, struct bpf_test_run_opts: its size, data in and out with their sizes, ctx in and out with their sizes,
# retval, repeat, duration, flags, cpu, batch_size.
_TEST_RUN: Final = struct.Struct("@NPPIIPPIIIiIIII")


class Descriptor:
    """A file descriptor that stands for something of BPF; closed with the object."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    @classmethod
    def pinned(cls, path: Path) -> Self:
        """What is pinned at `path`.  Raises KernelError: ENOENT where nothing is."""
        return cls(call(f"cannot open {path}", "bpf_obj_get", os.fsencode(path)))

    def pin(self, path: Path) -> None:
        """Let it live as long as `path` does.  Raises KernelError."""
        call(f"cannot pin {path}", "bpf_obj_pin", self.fd, os.fsencode(path))

    def reopened(self) -> Self:
        """The same by another descriptor, which shares nothing with this one that matters."""
        return type(self)(os.dup(self.fd))

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _info(self, layout: struct.Struct) -> tuple[Any, ...]:
        info = ctypes.create_string_buffer(layout.size)
        size = c_uint32(layout.size)
        call("cannot ask about a BPF descriptor", "bpf_obj_get_info_by_fd", self.fd, info, byref(size))
        return layout.unpack(info)


@dataclass(frozen=True, slots=True)
class ProgramStatistics:
    """What the kernel counts of a program.  Runs and time only while kernel.bpf_stats_enabled is 1."""

    name: str
    verified_instructions: int
    runs: int
    run_time_ns: int
    recursion_misses: int


class Program(Descriptor):
    """A loaded program."""

    def statistics(self) -> ProgramStatistics:
        name, run_time, runs, misses, verified = self._info(_PROGRAM_INFO)
        return ProgramStatistics(name.rstrip(b"\0").decode(), verified, runs, run_time, misses)

    def maps(self) -> frozenset[int]:
        """The ids of the maps that it uses."""
        ids = (c_uint32 * _MOST_MAPS)()
        info = ctypes.create_string_buffer(_PROGRAM_MAPS.size)
        _PROGRAM_MAPS.pack_into(info, 0, _MOST_MAPS, ctypes.addressof(ids))
        size = c_uint32(_PROGRAM_MAPS.size)
        call("cannot ask about a BPF program", "bpf_obj_get_info_by_fd", self.fd, info, byref(size))
        count, _at = _PROGRAM_MAPS.unpack(info)
        return frozenset(ids[:count])

    def run(self, context: bytes) -> tuple[int, bytes]:
        """Run a program of type syscall once: what it returned, and what it made of its context."""
        buffer = ctypes.create_string_buffer(context, len(context))
        options = ctypes.create_string_buffer(_TEST_RUN.size)
        at = ctypes.addressof(buffer)
        _TEST_RUN.pack_into(options, 0, _TEST_RUN.size, 0, 0, 0, 0, at, 0, len(context), 0, 0, 0, 0, 0, 0, 0)
        call("cannot run a BPF program", "bpf_prog_test_run_opts", self.fd, options)
        returned = _TEST_RUN.unpack(options)[9]
        return c_int(returned).value, buffer.raw


class Link(Descriptor):
    """A program that is attached, for as long as this is open or pinned."""

    @classmethod
    def to_sysctls(cls, program: Program, cgroup: int) -> Self:
        """Have a program asked for each access to a sysctl by the tasks of an open cgroup, and of those below it.

        Raises KernelError.
        """
        what = "cannot attach a BPF program to a cgroup"
        return cls(call(what, "bpf_link_create", program.fd, cgroup, _BPF_CGROUP_SYSCTL, None))

    def calls(self, program: str) -> bool:
        """Whether the program of that name is attached by it.

        A link to a cgroup can be detached, and given another program, by any root process that opens it
        (BPF_LINK_DETACH, BPF_LINK_UPDATE): it shows the cgroup 0 then (bpf_cgroup_link_fill_link_info in
        kernel/bpf/cgroup.c).  A link to a function can have neither done to it (bpf_tracing_link_lops in
        kernel/bpf/syscall.c).
        """
        kind, _program, cgroup = self._info(_LINK_INFO)
        if kind == _LINK_TYPE_CGROUP and not cgroup:
            return False
        with self.program() as present:
            return present.statistics().name == program[:_PROGRAM_NAME_SIZE]

    def program(self) -> Program:
        """The program."""
        _kind, program, _cgroup = self._info(_LINK_INFO)
        return Program(call("cannot open a BPF program", "bpf_prog_get_fd_by_id", program))

    def read_iterator(self) -> bytes:
        """All that an iterator program has to tell."""
        fd = call("cannot start a BPF iterator", "bpf_iter_create", self.fd)
        try:
            parts = []
            while part := os.read(fd, 1 << 16):
                parts.append(part)
        except OSError as error:
            raise KernelError.of("cannot read a BPF iterator", error) from error
        finally:
            os.close(fd)
        return b"".join(parts)


class Map(Descriptor):
    """A map of keys and values, both as bytes.  `id` is the kernel's number for it."""

    @classmethod
    def numbered(cls, number: int) -> Self:
        """The one with this id.  Raises KernelError: ENOENT where there is none."""
        return cls(call("cannot open a BPF map", "bpf_map_get_fd_by_id", number))

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.id, self._key_size, self._value_size, name = self._info(_MAP_INFO)
        self.name = name.rstrip(b"\0").decode()

    def reopened(self) -> Self:
        """As with any; what a process has put into a PERF_EVENT_ARRAY goes when the descriptor is closed by which it
        did so, with all of its duplicates, and this is none (perf_event_fd_array_release in kernel/bpf/arraymap.c).
        """
        return self.numbered(self.id)

    def get(self, key: bytes) -> bytes | None:
        """The value of `key`, if it is there.  Raises KernelError."""
        value = ctypes.create_string_buffer(self._value_size)
        found = self._present("cannot look into a BPF map", "bpf_map_lookup_elem", self.fd, self._key(key), value)
        return value.raw if found else None

    def put(self, key: bytes, value: bytes) -> None:
        """Set the value of `key`.  Raises KernelError: E2BIG where the map is full."""
        if len(value) != self._value_size:
            raise ValueError(f"a value of {len(value)} bytes for a map of {self._value_size}")
        call("cannot change a BPF map", "bpf_map_update_elem", self.fd, self._key(key), value, _BPF_ANY)

    def delete(self, key: bytes) -> bool:
        """Remove `key`; false if it is not there.  Raises KernelError."""
        return self._present("cannot change a BPF map", "bpf_map_delete_elem", self.fd, self._key(key))

    def keys(self) -> Iterator[bytes]:
        """The keys.  Keys that come or go meanwhile may be missed, or all be told again."""
        key: bytes | None = None
        following = ctypes.create_string_buffer(self._key_size)
        while self._present("cannot look into a BPF map", "bpf_map_get_next_key", self.fd, key, following):
            key = following.raw
            yield key

    def _key(self, key: bytes) -> bytes:
        if len(key) != self._key_size:
            raise ValueError(f"a key of {len(key)} bytes for a map of {self._key_size}")
        return key

    @staticmethod
    def _present(what: str, name: str, *arguments: object) -> bool:
        try:
            call(what, name, *arguments)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return False
            raise
        return True


class BpfObject:
    """An object file: opened, then loaded, then attached.  Programs and links outlive it, by descriptors of theirs."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._object = call(f"cannot read {path}", "bpf_object__open_file", os.fsencode(path), None)

    def leave_out(self, program: str) -> None:
        """Do not load this program."""
        call(f"cannot leave out {program}", "bpf_program__set_autoload", self._program(program), 0)

    def load(self) -> None:
        """Hand the programs to the verifier, and make the maps."""
        call(f"cannot load {self._name}", "bpf_object__load", self._object)

    def map(self, name: str) -> Map:
        return Map(os.dup(call(f"no map {name}", "bpf_object__find_map_fd_by_name", self._object, name.encode())))

    def program(self, name: str) -> Program:
        return Program(os.dup(call(f"{name} is not loaded", "bpf_program__fd", self._program(name))))

    def attach(self, name: str) -> Link:
        """Attach a program where its section says."""
        link = call(f"cannot attach {name}", "bpf_program__attach", self._program(name))
        try:
            return Link(os.dup(call(f"{name} has no link", "bpf_link__fd", link)))
        finally:
            call(f"cannot free {name}'s link", "bpf_link__destroy", link)

    def close(self) -> None:
        if self._object:
            call("cannot close", "bpf_object__close", self._object)
            self._object = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _program(self, name: str) -> int:
        return call(f"no program {name}", "bpf_object__find_program_by_name", self._object, name.encode())


class Ring:
    """The reading end of a ring buffer.  Its descriptor is readable when there are records."""

    def __init__(self, ring: Map) -> None:
        self._records: list[bytes] = []
        self._lock = threading.Lock()
        self._sample = RingSample(self._add)
        self._ring = call("cannot open a BPF ring", "ring_buffer__new", ring.fd, self._sample, None, None)

    def fileno(self) -> int:
        """An epoll descriptor, owned by the ring."""
        return call("a BPF ring has no descriptor", "ring_buffer__epoll_fd", self._ring)

    def take(self) -> list[bytes]:
        """The records since the last call, without waiting."""
        with self._lock:
            call("cannot read a BPF ring", "ring_buffer__consume", self._ring)
            taken, self._records = self._records, []
        return taken

    def close(self) -> None:
        if self._ring:
            call("cannot close", "ring_buffer__free", self._ring)
            self._ring = 0

    def _add(self, _context: int | None, data: int, size: int) -> int:
        self._records.append(ctypes.string_at(data, size))
        return 0


def kernel_functions(names: frozenset[str]) -> frozenset[str]:
    """Those of the kernel's functions that BTF knows, and that programs can attach to by name."""
    btf = call("cannot read the kernel's BTF", "btf__load_vmlinux_btf")
    try:
        return frozenset(name for name in names if _has_function(btf, name))
    finally:
        call("cannot free", "btf__free", btf)


def _has_function(btf: int, name: str) -> bool:
    try:
        call("no such function", "btf__find_by_name_kind", btf, name.encode(), _BTF_KIND_FUNC)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True
