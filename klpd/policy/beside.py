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
    from klpd.model import Livepatch

MANIFEST_SUFFIX: Final = ".livepatch.toml"
"""What the names of manifests beside modules end in."""


@dataclass(frozen=True, slots=True)
class Handed:
    """A manifest that comes with a module's file, and why it is not root's word (None: it is)."""

    manifest: Manifest
    distrust: str | None


def manifest_path(file: str) -> str:
    """Where the manifest of a module's file is, if there is one."""
    name = next((file.removesuffix(each) for each in MODULE_SUFFIXES if file.endswith(each)), file)
    return name + MANIFEST_SUFFIX


def open_beside(file: str) -> int | None:
    """A descriptor of the manifest beside a module's file; None where there is none.

    Raises PolicyError where it cannot be opened.
    """
    path = Path(manifest_path(file))
    try:
        return open_source(path)
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


def with_beside(livepatch: Livepatch, file: str, *, mine: bool = False) -> Livepatch:
    """`livepatch`, with what the manifest beside its file declares, if there is one.

    `mine`: whoever wrote it is believed, since nothing is decided but what somebody is shown.

    Raises PolicyError where it cannot be taken.
    """
    fd = open_beside(file)
    if fd is None:
        return livepatch
    try:
        handed = read_handed(fd, shown(Path(manifest_path(file))))
    finally:
        os.close(fd)
    if handed.distrust is not None and not mine:
        raise distrusted(handed)
    return with_manifest(livepatch, handed.manifest)


def with_manifest(livepatch: Livepatch, manifest: Manifest) -> Livepatch:
    """`livepatch`, with what a manifest that lies beside it declares.  Raises PolicyError where that is for another."""
    if manifest.is_for(livepatch):
        return replace(livepatch, declared=livepatch.declared + manifest.declaration)
    raise PolicyError(
        f"it is not for {livepatch.name}, whose sha256 is {livepatch.digest} and build id "
        f"{livepatch.build_id or 'none'}; write it anew: klpctl manifest new",
        file=manifest.file,
    )


def distrusted(handed: Handed) -> PolicyError:
    """The complaint about a manifest that is not root's."""
    return PolicyError(
        f"{handed.distrust}, and only root may declare what a livepatch changes; give it to root (chown root, "
        "chmod go-w), or put it into /etc/klpd/livepatches.d",
        file=handed.manifest.file,
    )
