# SPDX-License-Identifier: GPL-2.0-or-later
"""What klpd remembers of the livepatches that it saw: it keeps that in /var/lib/klpd, and klpctl reads it there where
klpd does not run.

livepatches/DIGEST.ko has the bytes of a livepatch, and livepatches/DIGEST.json what was read of them.
declared/DIGEST.json has what manifests declared of these bytes, whatever became of the livepatch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from klpd.model import Declaration, Livepatch
from klpd.plain import PlainError, from_plain

if TYPE_CHECKING:
    from collections.abc import Iterator

STATE_DIRECTORY: Final = Path("/var/lib/klpd")
LIVEPATCHES: Final = "livepatches"
DECLARED: Final = "declared"

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Remembered:
    """Livepatches, and what is declared of bytes, by digest.  `unreadable`: why there may be more."""

    livepatches: Mapping[str, Livepatch] = field(default_factory=dict)
    declarations: Mapping[str, Declaration] = field(default_factory=dict)
    unreadable: str | None = None

    def known(self, name: str, build_id: str) -> tuple[Livepatch, ...]:
        """The livepatches with this name and build id."""
        return tuple(each for each in self.livepatches.values() if (each.name, each.build_id) == (name, build_id))

    def declared(self, digest: str) -> Declaration | None:
        """What manifests declared of the bytes with this digest, or that it cannot be known; None: nothing."""
        if self.unreadable is not None:
            return Declaration(unreadable=self.unreadable)
        return self.declarations.get(digest)


def read_remembered(folder: Path = STATE_DIRECTORY) -> Remembered:
    """What klpd remembers in `folder`, the oldest first; nothing, where it never was."""
    try:
        livepatches = {each.digest: each for each in _read_livepatches(folder / LIVEPATCHES)}
        # Before declarations had files of their own, they were in those of the livepatches only.
        declarations = {digest: each.declared for digest, each in livepatches.items() if each.declared.files}
        declarations.update(_read_values(folder / DECLARED, Declaration))
    except PermissionError as error:
        return Remembered(unreadable=f"what klpd remembers is in {folder}, which cannot be read: {error.strerror}")
    return Remembered(
        {digest: with_remembered(each, declarations.get(digest)) for digest, each in livepatches.items()}, declarations
    )


def with_remembered(livepatch: Livepatch, declared: Declaration | None) -> Livepatch:
    """`livepatch` with what is remembered as declared of it in place of what was so when it was kept."""
    return livepatch if declared is None else replace(livepatch, declared=declared)


def _read_livepatches(folder: Path) -> Iterator[Livepatch]:
    for digest, livepatch in _read_values(folder, Livepatch):
        if digest == livepatch.digest and (folder / f"{digest}.ko").exists():
            yield livepatch


def _read_values(folder: Path, kind: type[_Value]) -> Iterator[tuple[str, _Value]]:
    """What the JSON files of a folder hold, with their names, the oldest first.  Raises PermissionError."""
    try:
        files = sorted((each for each in folder.iterdir() if each.suffix == ".json"), key=_age)
    except (FileNotFoundError, NotADirectoryError):
        return
    for path in files:
        try:
            yield path.stem, from_plain(kind, json.loads(path.read_bytes()))
        except PermissionError:
            raise
        except (OSError, PlainError, ValueError, RecursionError):
            continue  # written by another version, or torn by a crash: it is read again when it is seen again


def _age(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # klpd has just forgotten it, or it leads nowhere
        return 0
