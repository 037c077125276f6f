# SPDX-License-Identifier: GPL-2.0-or-later
"""What this machine's apt knows: versions, archives, downloads.  Nothing is installed here (packages.py does)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.vm.cache import digest
from tests.vm.command import run
from tests.vm.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.vm.cache import Cache

KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUITE: Final = "bookworm"
_SUITES: Final = {
    SUITE: "http://deb.debian.org/debian/",
    f"{SUITE}-updates": "http://deb.debian.org/debian/",
    f"{SUITE}-security": "http://deb.debian.org/debian-security/",
}
_INPUTS: Final = ("/var/lib/apt/lists", "/var/lib/dpkg/status", "/etc/apt", "/etc/apt/sources.list.d")


def candidates(cache: Cache, packages: Sequence[str], suite: str | None = None) -> dict[str, str]:
    """The version of each package that apt would install, as with `-t SUITE`; raises HarnessError where it knows none.

    apt takes half a second to tell, so its answer is kept until its lists, its sources or dpkg's status change.
    """
    name = f"candidates-{digest(list(packages), suite)}"
    known: dict[str, str] = json.loads(cache.note(name, _stamp(), lambda: json.dumps(_candidates(packages, suite))))
    return known


def _candidates(packages: Sequence[str], suite: str | None) -> dict[str, str]:
    found = parse_policy(run(["apt-cache", *_release(suite), "policy", *packages]))
    if missing := [package for package in packages if package not in found]:
        raise HarnessError(
            f"apt on this machine knows no {', '.join(missing)}: the test host is made of Debian 12's packages. "
            f"On Debian 12, `apt-get update` brings the lists."
        )
    return {package: found[package] for package in packages}


def parse_policy(text: str) -> dict[str, str]:
    """The candidates in what `apt-cache policy` says."""
    blocks = re.findall(r"^(\S+):\n(?: .*\n)*?  Candidate: (\S+)$", text, re.MULTILINE)
    return {package: version for package, version in blocks if version != "(none)"}


def _stamp() -> str:
    return digest([[path, Path(path).stat().st_mtime_ns] for path in _INPUTS if Path(path).exists()])


def sources(cache: Cache) -> list[str]:
    """One-line entries for Debian 12, its updates and its security fixes, from the mirrors of this machine."""
    return cache.note("sources", _stamp(), lambda: "\n".join(_sources())).splitlines()


def _sources() -> list[str]:
    mirrors = dict(_SUITES)
    form = "$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)"
    for line in run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"]).splitlines():
        origin, codename, component, uri = line.split("|")
        if origin == "Debian" and component == "main" and codename in mirrors:
            mirrors[codename] = uri
    return [f"deb [signed-by={KEYRING}] {uri} {suite} main" for suite, uri in mirrors.items()]


def dependencies(package: str, suite: str | None = None) -> list[str]:
    """The packages that ``package``'s candidate directly depends on."""
    return re.findall(r"^  Depends: (\S+)$", run(["apt-cache", *_release(suite), "depends", package]), re.MULTILINE)


def _release(suite: str | None) -> list[str]:
    return ["--target-release", suite] if suite else []


def download(package: str, version: str, folder: Path) -> Path:
    """Fetch a package's .deb into ``folder``; nothing is installed."""
    run(
        # As apt's own user it could not write to the cache folder.
        ["apt-get", "download", "-o", "APT::Sandbox::User=root", f"{package}={version}"],
        cwd=folder,
        hint="Out-of-date package lists? `apt-get update` renews them.",
    )
    (deb,) = folder.glob(f"{package}_*.deb")
    return deb


def unpack(deb: Path, folder: Path) -> None:
    """Unpack a .deb's files into ``folder``."""
    run(["dpkg-deb", "--extract", deb, folder])
