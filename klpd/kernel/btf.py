# SPDX-License-Identifier: GPL-2.0-or-later
"""Structures as the BTF of a kernel tells them: include/uapi/linux/btf.h, read by libbpf.

libbpf trusts what it reads, and so this is for the BTF of kernels, never for that in a module's file.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from bisect import bisect_left
from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from klpd.errors import KernelError
from klpd.kernel.libbpf import call

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_TYPE: Final = struct.Struct("=III")  # struct btf_type: name_off, info, size or type
_MEMBER: Final = struct.Struct("=III")  # struct btf_member: name_off, type, offset in bits
_INT_BOOL: Final = 1 << 26  # BTF_INT_BOOL, in the word behind the struct btf_type of an int
_BITFIELDS: Final = 1 << 31  # kind_flag: the offsets' upper bytes are sizes of bit fields
_KIND_INT: Final = 1
_KIND_POINTER: Final = 2
_KIND_STRUCT: Final = 4
_KIND_FORWARD: Final = 7
# typedef, volatile, const, restrict, type_tag
_KINDS_PASSED_OVER: Final = (8, 9, 10, 11, 18)
_MOST_PASSED_OVER: Final = 32
_POINTER_SIZE: Final = ctypes.sizeof(ctypes.c_void_p)


class Kind(Enum):
    """What a member is."""

    POINTER = auto()
    INT = auto()
    BOOL = auto()
    STRUCT = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Member:
    """A member: where it is and how large, in bytes; of OTHER kinds the size is not told.

    `of` names the structure that it is, or that it points to; it is empty where that is none.
    """

    name: str
    offset: int
    size: int
    kind: Kind
    of: str = ""


@dataclass(frozen=True, slots=True)
class Struct:
    """A structure: its size in bytes, and its members but for bit fields and those without a name."""

    size: int
    members: tuple[Member, ...]


def read_structs(path: Path, names: Iterable[str]) -> Mapping[str, tuple[Struct, ...]]:
    """The structures of these names in the BTF that a file has, or is; more than one where several go by one name.

    Raises KernelError where the file has none, GuardError where there is no libbpf.
    """
    with _Btf(path) as btf:
        return {name: tuple(btf.structs(name)) for name in names}


class _Type(NamedTuple):
    address: int
    name_at: int
    kind: int
    length: int
    bitfields: bool
    value: int
    """The size in bytes of a structure or a number; the type that anything else is about."""


class _Btf:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._btf = call(f"cannot read BTF from {path}", "btf__parse", os.fsencode(path), None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        call("cannot free", "btf__free", self._btf)

    def structs(self, name: str) -> Iterator[Struct]:
        yield from (self._struct(each) for each in self._named(name))

    def _named(self, name: str) -> Iterator[_Type]:
        """The structures of a name.  libbpf finds the first; the others have the same place in the table of strings,
        and types lie in memory in the order of their ids."""
        try:
            found = call(f"no {name}", "btf__find_by_name_kind", self._btf, name.encode(), _KIND_STRUCT)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        first = self._type(found)
        ids = range(found, call("cannot count", "btf__type_cnt", self._btf))
        wanted, at = struct.pack("=I", first.name_at), 0
        types = ctypes.string_at(first.address, self._address(ids[-1]) + len(wanted) - first.address)
        while at != -1:
            index = bisect_left(ids, first.address + at, key=self._address)
            each = self._type(ids[index])
            if each.address == first.address + at and each.kind == _KIND_STRUCT:
                yield each
            at = types.find(wanted, at + 1)

    def _struct(self, found: _Type) -> Struct:
        start = found.address + _TYPE.size
        entries = _MEMBER.iter_unpack(ctypes.string_at(start, _MEMBER.size * found.length))
        return Struct(
            found.value,
            tuple(
                self._member(name_at, type_id, offset & 0xFFFFFF if found.bitfields else offset)
                for name_at, type_id, offset in entries
                if name_at and not (found.bitfields and offset >> 24) and offset % 8 == 0
            ),
        )

    def _member(self, name_at: int, type_id: int, bits: int) -> Member:
        of = self._plain_type(type_id)
        size, kind, structure = 0, Kind.OTHER, ""
        if of is None:
            pass
        elif of.kind == _KIND_INT:
            (encoding,) = struct.unpack("=I", ctypes.string_at(of.address + _TYPE.size, 4))
            size, kind = of.value, Kind.BOOL if encoding & _INT_BOOL else Kind.INT
        elif of.kind == _KIND_POINTER:
            size, kind = _POINTER_SIZE, Kind.POINTER
            target = self._plain_type(of.value)
            if target is not None and target.kind in (_KIND_STRUCT, _KIND_FORWARD):
                structure = self._name(target.name_at)
        elif of.kind == _KIND_STRUCT:
            size, kind, structure = of.value, Kind.STRUCT, self._name(of.name_at)
        return Member(self._name(name_at), bits // 8, size, kind, structure)

    def _plain_type(self, type_id: int) -> _Type | None:
        """A type without its qualifiers; None for void, and where they have no end."""
        for _ in range(_MOST_PASSED_OVER):
            if type_id == 0:
                return None
            found = self._type(type_id)
            if found.kind not in _KINDS_PASSED_OVER:
                return found
            type_id = found.value
        return None

    def _type(self, type_id: int) -> _Type:
        address = self._address(type_id)
        name_at, info, value = _TYPE.unpack(ctypes.string_at(address, _TYPE.size))
        return _Type(address, name_at, info >> 24 & 0x1F, info & 0xFFFF, bool(info & _BITFIELDS), value)

    def _address(self, type_id: int) -> int:
        return call(f"{self._path} has no type {type_id}", "btf__type_by_id", self._btf, type_id)

    def _name(self, at: int) -> str:
        name = call(f"{self._path} has no name {at}", "btf__name_by_offset", self._btf, at)
        return ctypes.string_at(name).decode("utf-8", "backslashreplace")
