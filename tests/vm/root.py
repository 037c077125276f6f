# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's root file system as a tar archive of Debian packages, made by bootstrap.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.vm import apt, bootstrap
from tests.vm.cache import digest, source

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.vm.cache import Cache

# What klpd stands on, what a host has that loads livepatches, and what tests look with.
PACKAGES: Final = (
    "dbus",
    "kmod",
    "libbpf1",
    "libpam-systemd",
    "openssh-client",
    "openssh-server",
    "passwd",
    "polkitd",
    "procps",
    "python3",
    "python3-asn1crypto",
    "python3-cryptography",
    "python3-gi",
    "python3-pydbus",
    "python3-pyelftools",
    "python3-pyudev",
    "python3-systemd",
    "strace",
    "systemd",
    "systemd-sysv",
    "udev",
    "xz-utils",
    "zstd",
)
_ALICE: Final = '--customize-hook=chroot "$1" useradd --create-home --shell /bin/bash --uid 1000 alice'


def build(cache: Cache, say: Callable[[str], None]) -> tuple[Path, str]:
    """The archive, and the key of all that went into it."""
    sources = apt.sources(cache)
    key = digest(source(__file__), source(bootstrap.__file__), sources, apt.candidates(cache, PACKAGES))

    def fill(folder: Path) -> None:
        say("building the Debian root (about half a minute)")
        bootstrap.bootstrap(folder, apt.SUITE, sources, PACKAGES, _ALICE)

    return cache.get("root", key, fill, keep=2) / "root.tar", key
