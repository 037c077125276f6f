# SPDX-License-Identifier: GPL-2.0-or-later
"""The manifest beside a module's file: NAME.livepatch.toml beside NAME.ko, whether that is compressed or not.

It has to be for the livepatch in that very file, and root's: whoever may write it decides what the livepatch counts as.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from klpd.errors import PolicyError
from klpd.files import MODULE_SUFFIXES
from klpd.judge.rules import Manifest
from klpd.policy.manifest import parse_manifest
from klpd.policy.ownership import ROOT, unreadable
from klpd.policy.show import shown
from klpd.policy.source import open_source, read_open

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from klpd.model import Declaration, Livepatch

MANIFEST_SUFFIX: Final = ".livepatch.toml"
"""What the names of manifests beside modules end in."""


@dataclass(frozen=True, slots=True)
class Handed:
    """A manifest that comes with a module's file, and why it is not root's word (None: it is)."""

    manifest: Manifest
    distrust: str | None


def manifest_path(file: str) -> str:
    """Where the manifest of the module's file with this path is, if there is one."""
    name = next((file.removesuffix(each) for each in MODULE_SUFFIXES if file.endswith(each)), file)
    return name + MANIFEST_SUFFIX


def open_beside(file: str) -> tuple[int, str] | None:
    """A descriptor and the path of the manifest beside a module's file; None where there is none.

    It is beside the file itself, where `file` is a link to it: that is where it is looked for when a loader opens one.

    Raises PolicyError where it cannot be opened.
    """
    path = Path(manifest_path(os.path.realpath(file)))
    try:
        return open_source(path), str(path)
    except FileNotFoundError as error:
        if path.is_symlink():  # to nothing: somebody meant to declare something
            raise unreadable(path, error) from error
        return None
    except OSError as error:
        raise unreadable(path, error) from error


def read_handed(fd: int, file: str) -> Handed:
    """The manifest behind a descriptor, wherever its offset is; `file` is for messages.

    Raises PolicyError.
    """
    status = os.fstat(fd)
    distrust = None
    if status.st_uid != ROOT:
        distrust = f"it belongs to user {status.st_uid}"
    elif status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        distrust = "others than root may write it"
    return Handed(parse_manifest(read_open(fd, file), file), distrust)


def read_beside(file: str) -> Handed | None:
    """The manifest beside a module's file; None where there is none.  Raises PolicyError."""
    opened = open_beside(file)
    if opened is None:
        return None
    fd, path = opened
    try:
        return read_handed(fd, shown(Path(path)))
    finally:
        os.close(fd)


def with_beside(
    livepatch: Livepatch, file: str, remembered: Callable[[str], Declaration | None], *, mine: bool = False
) -> Livepatch:
    """`livepatch`, read from `file`, with all that is declared of it but by the site; `remembered` tells by digest what
    klpd remembers as declared.

    `mine`: whoever wrote the manifest beside it is believed, since nothing is decided but what somebody is shown.

    Raises PolicyError where that manifest cannot be taken.
    """
    handed = read_beside(file)
    if handed is None:
        return with_declared(livepatch, (), remembered(livepatch.digest))
    if handed.distrust is not None and not mine:
        raise distrusted(handed)
    return with_declared(livepatch, (handed.manifest,), None)


def with_declared(livepatch: Livepatch, beside: Iterable[Manifest], remembered: Declaration | None) -> Livepatch:
    """`livepatch`, which has what its modinfo declares, with what the manifests that came along declare of it.

    Where none came along, what is `remembered` of those that did before still holds.  Whoever reads a livepatch puts
    its declarations together here; those of the site the judge adds by itself (klpd.judge.declared).

    Raises PolicyError where a manifest is for another livepatch.
    """
    own = tuple(beside)
    for manifest in own:
        if not manifest.is_for(livepatch):
            raise PolicyError(
                f"it is not for {livepatch.name}, whose sha256 is {livepatch.digest} and build id "
                f"{livepatch.build_id or 'none'}; write it anew: klpctl manifest new",
                file=manifest.file,
            )
    said = tuple(each.declaration for each in own) or (() if remembered is None else (remembered,))
    return replace(livepatch, declared=sum(said, livepatch.declared)) if said else livepatch


def distrusted(handed: Handed) -> PolicyError:
    """The complaint about a manifest that is not root's."""
    return PolicyError(
        f"{handed.distrust}, and only root may declare what a livepatch changes; give it to root (chown root, "
        "chmod go-w), or put it into /etc/klpd/livepatches.d",
        file=handed.manifest.file,
    )
