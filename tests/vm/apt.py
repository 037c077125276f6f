# SPDX-License-Identifier: GPL-2.0-or-later
"""What this machine's apt knows: versions, archives, downloads.  Nothing is installed here (packages.py does)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.vm.cache import digest, source
from tests.vm.command import run
from tests.vm.errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.vm.cache import Cache

KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
SUITE: Final = "bookworm"
BACKPORTS: Final = f"{SUITE}-backports"
# The Debian before, of which only the kernel is of use here, and the one after.
OLDER: Final = "bullseye-security"
NEWER: Final = "trixie"
NEWER_BACKPORTS: Final = f"{NEWER}-backports"
_SUITES: Final = {
    SUITE: "http://deb.debian.org/debian/",
    f"{SUITE}-updates": "http://deb.debian.org/debian/",
    f"{SUITE}-security": "http://deb.debian.org/debian-security/",
}
_SOURCES: Final = ("/var/lib/apt/lists", "/etc/apt", "/etc/apt/sources.list.d")
_INPUTS: Final = (*_SOURCES, "/var/lib/dpkg/status")
# As apt's own user it could not write to the cache folder.
_UNCONFINED: Final = {"APT::Sandbox::User": "root"}
_UPDATE_HINT: Final = "Out-of-date package lists? `apt-get update` renews them."


def candidates(cache: Cache, packages: Sequence[str], suite: str | None = None) -> dict[str, str]:
    """The version of each package that apt would install; raises HarnessError where it knows none.

    With a suite, such as BACKPORTS, that suite's.  apt takes half a second to tell, so its answer is kept
    until its lists, its sources or dpkg's status change.
    """
    name = f"candidates-{digest(list(packages), suite)}"
    known: dict[str, str] = json.loads(
        cache.note(name, _stamp(_INPUTS), lambda: json.dumps(_candidates(cache, packages, suite)))
    )
    return known


def _candidates(cache: Cache, packages: Sequence[str], suite: str | None) -> dict[str, str]:
    found = parse_policy(run(["apt-cache", *_options(cache, suite), "policy", *packages]))
    if missing := [package for package in packages if package not in found]:
        where = f"{suite} has" if suite else "apt on this machine knows"
        raise HarnessError(
            f"{where} no {', '.join(missing)}: the test host is made of Debian 12's packages. "
            f"On Debian 12, `apt-get update` brings the lists."
        )
    return {package: found[package] for package in packages}


def parse_policy(text: str) -> dict[str, str]:
    """The candidates in what `apt-cache policy` says."""
    blocks = re.findall(r"^(\S+):\n(?: .*\n)*?  Candidate: (\S+)$", text, re.MULTILINE)
    return {package: version for package, version in blocks if version != "(none)"}


def _stamp(paths: Sequence[str]) -> str:
    return digest([[path, Path(path).stat().st_mtime_ns] for path in paths if Path(path).exists()])


def sources(cache: Cache) -> list[str]:
    """One-line entries for Debian 12, its updates and its security fixes, from the mirrors of this machine."""
    return cache.note("sources", _stamp(_INPUTS), lambda: "\n".join(_sources())).splitlines()


def sources_of(cache: Cache, *suites: str) -> list[str]:
    """One-line entries for other suites of Debian, from the same mirrors."""
    mirrors = json.loads(cache.note("mirrors", _stamp(_INPUTS), lambda: json.dumps(_mirrors())))
    kinds = (f"{SUITE}-security" if suite.endswith("-security") else SUITE for suite in suites)
    return [_entry(mirrors[kind], suite) for suite, kind in zip(suites, kinds, strict=True)]


def _sources() -> list[str]:
    return [_entry(uri, suite) for suite, uri in _mirrors().items()]


def _entry(uri: str, suite: str) -> str:
    return f"deb [signed-by={KEYRING}] {uri} {suite} main"


def _mirrors() -> dict[str, str]:
    mirrors = dict(_SUITES)
    form = "$(ORIGIN)|$(CODENAME)|$(COMPONENT)|$(REPO_URI)"
    for line in run(["apt-get", "indextargets", "--format", form, "Created-By: Packages"]).splitlines():
        origin, codename, component, uri = line.split("|")
        if origin == "Debian" and component == "main" and codename in mirrors:
            mirrors[codename] = uri
    return mirrors


def dependencies(cache: Cache, package: str, suite: str | None = None) -> list[str]:
    """The packages that ``package``'s candidate directly depends on."""
    told = run(["apt-cache", *_options(cache, suite), "depends", package])
    return re.findall(r"^  Depends: (\S+)$", told, re.MULTILINE)


def _options(cache: Cache, suite: str | None) -> list[str]:
    """What makes apt know nothing but ``suite``, whether or not this machine's sources have it, and change nothing.

    Its lists are a private copy in the cache, got anew when this machine's own are.
    """
    if suite is None:
        return []

    def update(folder: Path) -> None:
        (folder / "lists/partial").mkdir(parents=True)
        (folder / "sources.list").write_text("\n".join(sources_of(cache, suite)) + "\n")
        run(["apt-get", *_private(folder), "update"])

    return _private(cache.get("lists", digest(source(__file__), suite, _stamp(_SOURCES)), update, keep=6))


def _private(folder: Path) -> list[str]:
    settings = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder,
        **_UNCONFINED,
    }
    return [f"--option={name}={value}" for name, value in settings.items()]


def download(cache: Cache, package: str, version: str, folder: Path, suite: str | None = None) -> Path:
    """Fetch a package's .deb into ``folder``; nothing is installed."""
    options = _options(cache, suite) or [f"--option={name}={value}" for name, value in _UNCONFINED.items()]
    run(["apt-get", *options, "download", f"{package}={version}"], cwd=folder, hint=_UPDATE_HINT)
    (deb,) = folder.glob(f"{package}_*.deb")
    return deb


def unpack(deb: Path, folder: Path) -> None:
    """Unpack a .deb's files into ``folder``."""
    run(["dpkg-deb", "--extract", deb, folder])
