# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian packages on this machine: those that the harness needs, and how missing ones are had.

`python3 -m tests.vm.packages NAME...` sees to others, for the Makefile.
"""

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
    "clang",  # make bpf, as do llvm and libbpf-dev
    "debian-archive-keyring",  # mmdebstrap trusts it
    "e2fsprogs",  # mke2fs
    "kmod",  # depmod
    "libbpf-dev",
    "llvm",
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
    """Install what the harness needs and this machine lacks; raises HarnessError where that cannot be.

    apt's lists count as well: the guest's versions are read from them, and some images of Debian come without.
    """
    install([*NEEDED, *(NEEDED_BY_USERS if os.geteuid() != 0 else ())], say)
    if not any(_LISTS.glob("*_Packages*")):
        by_hand = "As root: apt-get update"
        say("getting apt's lists")
        run([*_root_prefix(by_hand), "apt-get", "update"], hint=by_hand)


def install(packages: list[str], say: Callable[[str], None]) -> None:
    """Install those of the packages that are missing; raises HarnessError where that cannot be."""
    if shutil.which("dpkg-query") is None or shutil.which("apt-get") is None:
        raise HarnessError("packages come by dpkg and apt: this needs a Debian machine (Debian 12 is tested)")
    missing = _missing(packages)
    if not missing:
        return
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    by_hand = f"As root: apt-get update && {' '.join(command)}"
    root = _root_prefix(by_hand)
    say(f"installing {' '.join(missing)}")
    run([*root, "apt-get", "update"], hint=by_hand)
    # Another apt may be at work (unattended-upgrades): wait for it.
    run([*root, "env", "DEBIAN_FRONTEND=noninteractive", *command, "-o", "DPkg::Lock::Timeout=300"], hint=by_hand)


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
        raise HarnessError(f"more Debian packages are needed, and there is no sudo here. {by_hand}")
    # Where nobody can answer, sudo must not ask.
    return ["sudo"] if sys.stdin.isatty() else ["sudo", "--non-interactive"]


def main() -> int:
    """Install the packages that the command line names."""
    try:
        install(sys.argv[1:], lambda text: print(text, file=sys.stderr, flush=True))
    except HarnessError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
