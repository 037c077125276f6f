# SPDX-License-Identifier: GPL-2.0-or-later
"""The Debian packages that the harness itself needs on this machine, and how it gets them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.vm.command import environment, run
from tests.vm.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Callable

NEEDED: Final = (
    "debian-archive-keyring",  # mmdebstrap trusts it
    "e2fsprogs",  # mke2fs
    "kmod",  # depmod
    "make",
    "mmdebstrap",
    "qemu-system-x86",
    "qemu-utils",  # qemu-img
    "util-linux",  # setpriv
)
# Without root, mmdebstrap uses a user namespace and the image's files get their owners from fakeroot.
NEEDED_BY_USERS: Final = ("fakeroot", "uidmap")
_LISTS: Final = Path("/var/lib/apt/lists")


def ensure(say: Callable[[str], None]) -> None:
    """Install what is missing, and get apt's lists where there are none; raises HarnessError where that cannot be."""
    if shutil.which("dpkg-query") is None or shutil.which("apt-get") is None:
        raise HarnessError("the test host is built with dpkg and apt: it needs a Debian machine (Debian 12 is tested)")
    missing = _missing([*NEEDED, *(NEEDED_BY_USERS if os.geteuid() != 0 else ())])
    if not missing and any(_LISTS.glob("*_Packages*")):
        return
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    by_hand = f"As root: apt-get update && {' '.join(install)}"
    root = _root_prefix(by_hand)
    say(f"installing {' '.join(missing)}" if missing else "getting apt's lists")
    run([*root, "apt-get", "update"], hint=by_hand)
    if missing:
        # Another apt may be at work (unattended-upgrades): wait for it.
        run([*root, "env", "DEBIAN_FRONTEND=noninteractive", *install, "-o", "DPkg::Lock::Timeout=300"], hint=by_hand)


def _missing(packages: list[str]) -> list[str]:
    # dpkg-query fails where it knows nothing of a package, and still answers for the others.
    answer = subprocess.run(
        ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n", *packages],
        check=False,
        env=environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    installed = {line.removeprefix("installed ") for line in answer.stdout.splitlines()}
    return [package for package in packages if package not in installed]


def _root_prefix(by_hand: str) -> list[str]:
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") is None:
        raise HarnessError(f"the test host needs more Debian packages, and there is no sudo here. {by_hand}")
    # Where nobody can answer, sudo must not ask.
    return ["sudo"] if sys.stdin.isatty() else ["sudo", "--non-interactive"]
