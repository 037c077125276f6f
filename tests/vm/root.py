# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest's root file system as a tar archive of Debian packages, made by mmdebstrap."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from tests.vm import apt
from tests.vm.cache import digest, source
from tests.vm.command import run

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
_OPTIONS: Final = (
    "--variant=essential",
    "--format=tar",
    '--aptopt=Apt::Install-Recommends "false"',
    *(f"--dpkgopt=path-exclude=/usr/share/{folder}/*" for folder in ("doc", "info", "locale", "man")),
    f"--include={','.join(PACKAGES)}",
    '--customize-hook=chroot "$1" useradd --create-home --shell /bin/bash --uid 1000 alice',
)


_UNSHARE_HINT: Final = (
    "As an ordinary user it needs unprivileged user namespaces, a line for you in /etc/subuid and in /etc/subgid, and "
    "300 MB in $TMPDIR, or /tmp, which everybody must be able to enter."
)


def build(cache: Cache, say: Callable[[str], None]) -> tuple[Path, str]:
    """The archive, and the key of all that went into it."""
    sources = apt.sources(cache)
    key = digest(source(__file__), sources, apt.candidates(cache, PACKAGES))

    def fill(folder: Path) -> None:
        say("building the Debian root (about half a minute)")
        (folder / "sources.list").write_text("\n".join(sources) + "\n")
        target = (apt.SUITE, folder / "root.tar", folder / "sources.list")
        if os.geteuid() == 0:
            run(["mmdebstrap", "--mode=root", *_OPTIONS, *target], env={"TMPDIR": str(folder.parent)})
        else:
            # The namespace's root is nobody's friend outside of it and cannot enter a user's home: it works in /tmp.
            run(["mmdebstrap", "--mode=unshare", *_OPTIONS, *target], hint=_UNSHARE_HINT)

    return cache.get("root", key, fill, keep=2) / "root.tar", key
