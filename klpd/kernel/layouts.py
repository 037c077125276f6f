# SPDX-License-Identifier: GPL-2.0-or-later
"""The layout of a kernel's livepatch structures, told by its BTF: that of the running kernel, or in a vmlinux file.

Where a kernel has no BTF at hand, what is known since Linux 5.4 has to do.  Where it has, and says that its structures
are others than those, that is not good enough any more: a module read by it would seem to say what it does not.  Then
what is not as it is known counts as unknown, and where nothing could be found without it, all does.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from klpd.errors import GuardError, KernelError
from klpd.kernel.btf import Kind, read_structs
from klpd.layout import KNOWN, FunctionLayout, KernelLayout, Layout, ObjectLayout, PatchLayout, StateLayout
from klpd.model import Callback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from klpd.kernel.btf import Member, Struct

log = logging.getLogger(__name__)

_RUNNING: Final = "sys/kernel/btf/vmlinux"
_FILES: Final = (
    "boot/vmlinux-{}",
    "lib/modules/{}/vmlinux-{}",
    "lib/modules/{}/build/vmlinux",
    "usr/lib/modules/{}/kernel/vmlinux",
    "usr/lib/debug/boot/vmlinux-{}",
    "usr/lib/debug/boot/vmlinux-{}.debug",
    "usr/lib/debug/lib/modules/{}/vmlinux",
)
"""Where a release's vmlinux may be: libbpf's own list (btf__load_vmlinux_btf in src/btf.c)."""
_RELEASE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~-]{0,63}")
"""A module says what it is for, and no module is to lead anywhere else."""
_MACHINES: Final = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64", "ppc64le": "EM_PPC64", "s390x": "EM_S390"}
_ROOT: Final = 0
_POINTER: Final = 8
_LARGEST: Final = 1 << 16
"""In bytes.  struct klp_patch has some 200."""
STRUCTS: Final = ("klp_patch", "klp_object", "klp_callbacks", "klp_func", "klp_state")
"""Those that a layout is made of."""

T = TypeVar("T")


class KernelLayouts:
    """The layouts in the kernels of this machine; may be used from any thread.

    To ask for that of a kernel the first time takes a while, half a second where everything is slow: its BTF has to be
    loaded.  That is kept no longer than it takes.  `root` is where its file system is, `release` the running kernel's.
    """

    def __init__(self, root: Path = Path("/"), release: str | None = None) -> None:
        self._root = root
        self._running = os.uname().release if release is None else release
        self._machine = _MACHINES.get(os.uname().machine)
        self._lock = threading.Lock()
        self._found: dict[str, KernelLayout] = {}

    def load_running(self) -> None:
        """Find that of the running kernel now."""
        if self._machine is not None:
            self(self._running, self._machine)

    def __call__(self, release: str, machine: str, /) -> KernelLayout:
        if machine != self._machine or not _RELEASE.fullmatch(release):
            return KNOWN
        with self._lock:
            found = self._found.get(release) or self._find(release)
            # As many as there are kernels, and not as there are modules that name one.
            if found is not KNOWN or release == self._running:
                self._found[release] = found
            return found

    def _find(self, release: str) -> KernelLayout:
        for path in self._candidates(release):
            try:
                structs = read_structs(path, STRUCTS)
            except (KernelError, GuardError) as error:
                log.debug("the structures of %s are not known: %s", release, error)
                continue
            if structs["klp_patch"]:
                return understood(structs, f"BTF of {release}")
        return KNOWN

    def _candidates(self, release: str) -> Iterator[Path]:
        running = (_RUNNING,) if release == self._running else ()
        paths = (self._root / each.format(*[release] * 2) for each in (*running, *_FILES))
        return (each for each in paths if _is_roots(each))


def _is_roots(path: Path) -> bool:
    """Whether there is a file that only root can have written: libbpf trusts what it reads, and so does klpd then."""
    try:
        status = path.stat()
    except OSError:
        return False
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISREG(status.st_mode) and status.st_uid == _ROOT and not others


class _UnfamiliarError(Exception):
    """A structure is not as it is known; the text says which, and what of it."""


def understood(structs: Mapping[str, tuple[Struct, ...]], source: str) -> KernelLayout:
    """What the structures of a kernel come to; `source` says where they are from."""
    try:
        layout = _layout({name: _Known(name, found) for name, found in structs.items()})
    except _UnfamiliarError as error:
        return KernelLayout(None, f"{source}, not understood: {error}")
    unknown = [
        name
        for name, known in (
            ("klp_patch.states", layout.patch.states),
            ("klp_patch.replace", layout.patch.replace),
            ("klp_object.callbacks", layout.object.callbacks),
            ("klp_state", layout.state),
        )
        if known is None
    ]
    return KernelLayout(layout, source + (f", not understood: {', '.join(unknown)}" if unknown else ""))


class _Known:
    """A structure, asked for the members that klpd knows."""

    def __init__(self, name: str, found: tuple[Struct, ...]) -> None:
        self._name = name
        self._found = found

    @property
    def size(self) -> int:
        return self._struct.size

    @property
    def _struct(self) -> Struct:
        """Several of one name are as good as one, if they are the same: pahole tells some types twice."""
        if not self._found:
            raise _UnfamiliarError(f"it has no struct {self._name}")
        different = set(self._found)
        if len(different) != 1:
            raise _UnfamiliarError(f"there are {len(different)} different struct {self._name}")
        (struct,) = different
        if struct.size > _LARGEST:
            raise _UnfamiliarError(f"struct {self._name} has {struct.size} bytes")
        return struct

    def pointer(self, name: str, to: str = "") -> int:
        """The offset of a pointer; `to` a structure of that name."""
        return self._member(name, Kind.POINTER, _POINTER, to)

    def number(self, name: str, size: int) -> int:
        return self._member(name, Kind.INT, size)

    def truth(self, name: str) -> int:
        return self._member(name, Kind.BOOL, 1)

    def struct(self, name: str, of: str, size: int) -> int:
        return self._member(name, Kind.STRUCT, size, of)

    def _member(self, name: str, kind: Kind, size: int, of: str = "") -> int:
        found = [each for each in self._struct.members if each.name == name]
        if len(found) != 1:
            raise _UnfamiliarError(f"struct {self._name} has no member {name}")
        (member,) = found
        if (member.kind, member.size) != (kind, size) or (of and member.of != of) or not self._is_apart(member):
            raise _UnfamiliarError(f"the member {name} of struct {self._name} is something else")
        return member.offset

    def _is_apart(self, member: Member) -> bool:
        """Whether a member is inside of the structure, and no other begins in it."""
        end = member.offset + member.size
        others = (each.offset for each in self._struct.members if each is not member)
        return end <= self._struct.size and not any(member.offset <= other < end for other in others)


def _layout(known: Mapping[str, _Known]) -> Layout:
    """Raises _UnfamiliarError where a klp_patch could not be found by it, or its objects not be read."""
    patch, klp_object, function = known["klp_patch"], known["klp_object"], known["klp_func"]
    return Layout(
        PatchLayout(
            mod=patch.pointer("mod", to="module"),
            objs=patch.pointer("objs", to="klp_object"),
            states=_if_familiar(lambda: patch.pointer("states", to="klp_state")),
            replace=_if_familiar(lambda: patch.truth("replace")),
            size=patch.size,
        ),
        ObjectLayout(
            name=klp_object.pointer("name"),
            funcs=klp_object.pointer("funcs", to="klp_func"),
            callbacks=_if_familiar(lambda: _callbacks(klp_object, known["klp_callbacks"])),
            size=klp_object.size,
        ),
        FunctionLayout(
            old_name=function.pointer("old_name"),
            new_func=function.pointer("new_func"),
            old_sympos=function.number("old_sympos", 8),
            size=function.size,
        ),
        _if_familiar(lambda: _state(known["klp_state"])),
    )


def _callbacks(klp_object: _Known, callbacks: _Known) -> tuple[tuple[Callback, int], ...]:
    start = klp_object.struct("callbacks", "klp_callbacks", callbacks.size)
    return tuple((each, start + callbacks.pointer(each)) for each in Callback)


def _state(state: _Known) -> StateLayout:
    return StateLayout(state.number("id", 8), state.number("version", 4), state.size)


def _if_familiar(what: Callable[[], T]) -> T | None:
    try:
        return what()
    except _UnfamiliarError:
        return None
