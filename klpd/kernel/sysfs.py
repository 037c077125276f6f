# SPDX-License-Identifier: GPL-2.0-or-later
"""What sysfs and /proc/modules tell of the livepatches of the running kernel, and the writes to `enabled`.

Layout: Documentation/ABI/testing/sysfs-kernel-livepatch.  Attributes that a kernel does not have (`replace`,
`stack_order`) are None.  Anything may vanish between two reads: a livepatch leaves sysfs when its unpatching is done.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klpd.buildid import parse_build_id
from klpd.errors import KernelError
from klpd.model import Function, InstalledObject

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path("/")
_GONE: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.ENOTDIR})


@dataclass(frozen=True, slots=True)
class SysfsLivepatch:
    """One directory of /sys/kernel/livepatch."""

    name: str
    enabled: bool
    transition: bool
    replace: bool | None
    stack_order: int | None
    objects: tuple[InstalledObject, ...]
    build_id: str | None


@dataclass(frozen=True, slots=True)
class LoadedModule:
    """One line of /proc/modules; `taint` holds the letters of Documentation/admin-guide/tainted-kernels.rst."""

    name: str
    references: int
    live: bool
    taint: str

    @property
    def is_livepatch(self) -> bool:
        return "K" in self.taint


def read_livepatches(root: Path = ROOT) -> tuple[SysfsLivepatch, ...]:
    """Every livepatch that sysfs shows, by name; no order among them is implied.

    Raises KernelError where sysfs cannot be read.  A kernel without livepatching shows none.
    """
    folder = root / "sys/kernel/livepatch"
    try:
        names = sorted(each.name for each in folder.iterdir())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise KernelError.of(f"cannot list {folder}", error) from error
    return tuple(each for each in (_read_livepatch(root, name) for name in names) if each is not None)


def _read_livepatch(root: Path, name: str) -> SysfsLivepatch | None:
    folder = root / "sys/kernel/livepatch" / name
    enabled, transition = _attribute(folder / "enabled"), _attribute(folder / "transition")
    if enabled is None or transition is None:
        return None
    replace, order = _attribute(folder / "replace"), _attribute(folder / "stack_order")
    return SysfsLivepatch(
        name=name,
        enabled=enabled == "1",
        transition=transition == "1",
        replace=None if replace is None else replace == "1",
        stack_order=None if order is None else int(order),
        objects=tuple(_read_objects(folder)),
        build_id=read_build_id(name, root),
    )


def _read_objects(folder: Path) -> Iterator[InstalledObject]:
    for each in _subdirectories(folder):
        patched = _attribute(each / "patched")
        functions = (_read_function(entry.name) for entry in _subdirectories(each))
        yield InstalledObject(each.name, tuple(functions), None if patched is None else patched == "1")


def _read_function(entry: str) -> Function:
    name, _, sympos = entry.rpartition(",")
    return Function(name, int(sympos))


def read_build_id(module: str, root: Path = ROOT) -> str | None:
    """The build id of a loaded module, in hex; None where it has none that can be read."""
    try:
        note = (root / "sys/module" / module / "notes/.note.gnu.build-id").read_bytes()
        return parse_build_id(note, "=")
    except (OSError, ValueError):
        return None


def is_livepatch(module: str, root: Path = ROOT) -> bool:
    """Whether a loaded module is a livepatch; false for one that is not loaded (any more)."""
    try:
        return "K" in (root / "sys/module" / module / "taint").read_text(encoding="ascii")
    except OSError:
        return False


def read_modules(root: Path = ROOT) -> tuple[LoadedModule, ...]:
    """Every module that is loaded.  Raises KernelError where /proc/modules cannot be read."""
    path = root / "proc/modules"
    try:
        text = path.read_text(encoding="ascii")
    except OSError as error:
        raise KernelError.of(f"cannot read {path}", error) from error
    return tuple(_read_module(line) for line in text.splitlines())


def _read_module(line: str) -> LoadedModule:
    name, _size, references, _users, state, *rest = line.split(" ")
    taint = rest[-1].strip("()") if rest and rest[-1].startswith("(") else ""
    return LoadedModule(name, int(references) if references.isdigit() else 0, live=state == "Live", taint=taint)


def write_enabled(name: str, *, enabled: bool, root: Path = ROOT) -> None:
    """Enable or disable a livepatch, or reverse its transition (`enabled_store` in kernel/livepatch/core.c).

    Raises KernelError: EBUSY while another transition runs, EINVAL where it is so already, ENOENT for one that is
    not installed, EPERM where the guard refuses the write.
    """
    path = root / "sys/kernel/livepatch" / name / "enabled"
    try:
        with path.open("wb", buffering=0) as attribute:
            attribute.write(b"1" if enabled else b"0")
    except OSError as error:
        raise KernelError.of(f"cannot {'enable' if enabled else 'disable'} {name}", error) from error


def write_force(name: str, *, root: Path = ROOT) -> None:
    """Force the livepatch's transition to its end (`force_store` in kernel/livepatch/core.c).

    Raises KernelError: EINVAL where it is not in transition, ENOENT, and EPERM where the guard refuses the write.
    """
    try:
        with (root / "sys/kernel/livepatch" / name / "force").open("wb", buffering=0) as attribute:
            attribute.write(b"1")
    except OSError as error:
        raise KernelError.of(f"cannot force the transition of {name}", error) from error


def _attribute(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise KernelError.of(f"cannot read {path}", error) from error


def _subdirectories(folder: Path) -> list[Path]:
    try:
        return sorted(each for each in folder.iterdir() if each.is_dir())
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise KernelError.of(f"cannot list {folder}", error) from error
