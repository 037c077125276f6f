# SPDX-License-Identifier: GPL-2.0-or-later
"""A Debian kernel for the guest, from its package, which is unpacked but never installed on this machine."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.vm import apt
from tests.vm.cache import digest, source
from tests.vm.command import run
from tests.vm.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.vm.cache import Cache


@dataclass(frozen=True, slots=True)
class Kernel:
    """Which kernel: a Debian package that is an image, or depends on the newest; and its suite, if not Debian 12's."""

    package: str
    suite: str | None = None


# The cloud flavour is built from the same source with the same livepatch and BPF options, and a third of the size.
STOCK: Final = Kernel("linux-image-cloud-amd64")
BACKPORT: Final = Kernel("linux-image-cloud-amd64", apt.BACKPORTS)
OLDEST: Final = Kernel("linux-image-cloud-amd64", apt.OLDER)
NEWEST: Final = Kernel("linux-image-cloud-amd64", apt.NEWER_BACKPORTS)
KERNELS: Final = {"oldest": OLDEST, "stock": STOCK, "backport": BACKPORT, "newest": NEWEST}


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A kernel ready to boot.  ``modules`` is what belongs into the guest at /usr/lib/modules/RELEASE."""

    release: str
    image: Path
    modules: Path
    key: str


def release(cache: Cache, kernel: Kernel) -> str:
    """The kernel's release, as `uname -r` will say."""
    version = _version(cache, kernel)
    return cache.note(f"release-{digest(kernel.package, kernel.suite)}", version, lambda: _release(cache, kernel))


def _version(cache: Cache, kernel: Kernel) -> str:
    return apt.candidates(cache, [kernel.package], kernel.suite)[kernel.package]


def _release(cache: Cache, kernel: Kernel) -> str:
    for name in [kernel.package, *apt.dependencies(cache, kernel.package, kernel.suite)]:
        if found := re.fullmatch(r"linux-image-(\d\S*)", name):
            return found[1]
    raise HarnessError(f"{kernel.package} is no Debian kernel: it depends on no linux-image-VERSION package")


def unpack(cache: Cache, kernel: Kernel) -> Unpacked:
    """Download and unpack the kernel."""
    version = _version(cache, kernel)
    name = release(cache, kernel)

    def build(folder: Path) -> None:
        for package in _parts(cache, name, kernel.suite):
            deb = apt.download(cache, package, version, folder, kernel.suite)
            apt.unpack(deb, folder)
            deb.unlink()
        if not (folder / "lib").exists():
            (folder / "lib").symlink_to("usr/lib")
        modules = folder / "lib/modules" / name
        if (modules / "vmlinuz").exists():
            (folder / "vmlinuz").symlink_to(f"lib/modules/{name}/vmlinuz")
        else:
            (folder / "vmlinuz").symlink_to(f"boot/vmlinuz-{name}")
        run(["depmod", "--basedir", folder, name])

    key = digest(source(__file__), name, version)
    folder = cache.get("kernel", key, build, keep=8)
    return Unpacked(name, folder / "vmlinuz", folder / "lib/modules" / name, key)


def _parts(cache: Cache, name: str, suite: str | None) -> list[str]:
    """The packages that a kernel is in: one, or since 7.x several that it depends on."""
    package = f"linux-image-{name}"
    others = [f"linux-{part}-{name}" for part in ("base", "binary", "modules")]
    return [package, *(each for each in apt.dependencies(cache, package, suite) if each in others)]


def load_order(modules: Path, wanted: Sequence[str]) -> list[Path]:
    """The module files that ``wanted`` (names) need, in an order in which insmod takes them.

    What is built into the kernel needs no file.  Raises HarnessError on a name that the kernel has not at all.
    """
    needs: dict[str, list[str]] = {}
    for line in (modules / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(":")
        needs[path] = others.split()
    paths = {_name(path): path for path in needs}
    builtin = {_name(path) for path in (modules / "modules.builtin").read_text().splitlines()}
    order: list[str] = []

    def add(path: str) -> None:
        # modules.dep lists all needs of a module, direct or not, those that come first last.
        for one in [*reversed(needs[path]), path]:
            if one not in order:
                order.append(one)

    for name in wanted:
        if name in paths:
            add(paths[name])
        elif name not in builtin:
            raise HarnessError(f"the kernel in {modules} has no module {name}")
    return [modules / path for path in order]


def _name(path: str) -> str:
    return path.rpartition("/")[2].partition(".")[0].replace("-", "_")
