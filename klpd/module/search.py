# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that a livepatch which is loaded may come from, looked for by name and told from others by build id."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from klpd.errors import ModuleFormatError
from klpd.files import MODULE_SUFFIXES, read_descriptor
from klpd.module.compression import unpack
from klpd.module.reader import read_livepatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from klpd.layout import Layouts
    from klpd.model import Livepatch


def module_tree() -> Path:
    """Where the running kernel's modules are."""
    return Path("/lib/modules") / os.uname().release


def watched_directories(directories: Iterable[str]) -> tuple[Path, ...]:
    """The directories whose files klpd judges when they are opened; `directories` are those that the policy adds."""
    return (module_tree(), *map(Path, directories))


def find_livepatches(
    name: str, build_id: str, roots: Iterable[Path], layouts: Layouts
) -> Iterator[tuple[Livepatch, bytes, Path]]:
    """The livepatches `name` with that build id, each with its bytes and the file below `roots` that they are from.

    `layouts` is as for read_livepatch.  Files that cannot be read are passed over: they are not the one.
    """
    for path in _candidates(name, roots):
        try:
            data = _read(path)
            livepatch = read_livepatch(data, file=str(path), layouts=layouts)
        except (OSError, ModuleFormatError):
            continue
        if (livepatch.name, livepatch.build_id) == (name, build_id):
            yield livepatch, data, path


def _candidates(name: str, roots: Iterable[Path]) -> Iterator[Path]:
    # A module's file may have dashes where its name in the kernel has underscores.
    wanted = {f"{name}{suffix}" for suffix in MODULE_SUFFIXES}
    for root in roots:
        for folder, _folders, files in os.walk(root):
            yield from (Path(folder) / each for each in files if each.replace("-", "_") in wanted)


def _read(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return unpack(read_descriptor(fd, str(path)), file=str(path))
    finally:
        os.close(fd)
