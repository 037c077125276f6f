# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's disk: an ext4 file system with the Debian root, a kernel's modules and the guest's own few files."""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING, Final

from tests.vm import guest, root
from tests.vm.cache import digest, source
from tests.vm.command import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.vm.cache import Cache
    from tests.vm.kernel import Unpacked

# Sparse: what the guest does not write takes no room here.
SIZE: Final = "2G"
_ASSEMBLE: Final = """\
set -e
mkdir tree
tar --extract --numeric-owner --file "$1" --directory tree
tar --extract --numeric-owner --keep-directory-symlink --file overlay.tar --directory tree
truncate --size "$2" image
mke2fs -q -F -t ext4 -O ^has_journal -E root_owner=0:0,lazy_itable_init=1 -d tree image
"""


def build(cache: Cache, kernel: Unpacked, say: Callable[[str], None]) -> tuple[Path, str]:
    """The disk's file, never to be written to, and the key of all that went into it."""
    root_tar, root_key = root.build(cache, say)
    key = digest(source(__file__), kernel.key, root_key, guest.files(), guest.links())

    def fill(folder: Path) -> None:
        say("assembling the disk")
        work = folder.parent
        _write_overlay(work / "overlay.tar", kernel)
        # An ordinary user makes files of root's with fakeroot: it remembers the owners for mke2fs.
        prefix = [] if os.geteuid() == 0 else ["fakeroot"]
        run([*prefix, "sh", "-c", _ASSEMBLE, "assemble", root_tar, SIZE], cwd=work)
        (work / "image").rename(folder / "image")

    return cache.get("image", key, fill, keep=8) / "image", key


def _write_overlay(path: Path, kernel: Unpacked) -> None:
    with tarfile.open(path, "w") as tar:
        for name, text in guest.files().items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
        for name, target in guest.links().items():
            member = tarfile.TarInfo(name)
            member.type = tarfile.SYMTYPE
            member.linkname = target
            tar.addfile(member)
        tar.add(kernel.modules, f"usr/lib/modules/{kernel.release}", filter=owned_by_root)


def owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """For TarFile.add: whoever owns the file here, root owns it in the guest."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
