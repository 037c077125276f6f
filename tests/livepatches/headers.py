# SPDX-License-Identifier: GPL-2.0-or-later
"""The headers of Debian's kernels: where the linux-headers packages install them, or unpacked into the cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.livepatches import enclosure
from tests.vm import apt, bootstrap
from tests.vm.cache import Cache, default_folder, digest, source
from tests.vm.errors import HarnessError

_SOURCES: Final = Path("/usr/src")
_PREFIX: Final = "linux-headers-"
_NEEDED: Final = re.compile(r"linux-(?:headers|kbuild)-")


class BuildError(Exception):
    """The modules cannot be built; the text says what is missing or what the compiler said."""


@dataclass(frozen=True, slots=True)
class Headers:
    """What modules for the kernel `release` are built with, and in which Debian, if not in this machine's own."""

    release: str
    folder: Path
    settings: tuple[str, ...] = ()
    root: Path | None = None

    def make(self, modules: Path, *arguments: str) -> list[str]:
        """The command that builds the folder of modules."""
        folder = self.folder if self.root is None else "/" / self.folder.relative_to(self.root)
        command = ["make", "-C", str(folder), f"M={modules}", *self.settings, *arguments]
        return command if self.root is None else enclosure.inside(self.root, modules, command)


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where the headers of other kernels than Debian 12's own come from, and what of theirs is to be overridden.

    `compiler` is a package of that Debian, where this machine's does not do.
    """

    releases: re.Pattern[str]
    suite: str
    settings: tuple[str, ...] = ()
    compiler: str | None = None


# Debian's kernel team puts the distribution's number into the release of what is no stable Debian's own kernel.
_ORIGINS: Final = (
    _Origin(re.compile(r"5\.10\."), apt.OLDER, settings=("CC=gcc",)),  # they name gcc-10
    _Origin(re.compile(r".*\+deb12-"), apt.BACKPORTS),
    _Origin(re.compile(r".*\+deb13-"), apt.NEWER_BACKPORTS, compiler="gcc-14"),
)


def find_headers(release: str | None = None) -> Headers:
    """The headers for `release`, or for the newest kernel of the cloud flavour, which the test host runs.

    Those of other kernels of the test host's are downloaded where they are not installed.  Raises BuildError on
    others, and where that cannot be.
    """
    if release is not None:
        folder = _SOURCES / f"{_PREFIX}{release}"
        if (folder / "Makefile").exists():
            return Headers(release, folder)
        for origin in _ORIGINS:
            if origin.releases.match(release):
                return _get(release, origin)
        raise BuildError(f"{folder} is missing: apt-get install {_PREFIX}{release}")
    folders = [each.parent for each in _SOURCES.glob(f"{_PREFIX}*-cloud-*/Makefile")]
    if not folders:
        raise BuildError(f"no {_PREFIX}*-cloud-* in {_SOURCES}: apt-get install {_PREFIX}cloud-amd64")
    newest = max(folders, key=lambda folder: [int(part) for part in re.findall(r"\d+", folder.name)])
    return Headers(newest.name.removeprefix(_PREFIX), newest)


def _get(release: str, origin: _Origin) -> Headers:
    cache = Cache(default_folder())
    package = f"{_PREFIX}{release}"
    try:
        version = apt.candidates(cache, [package], origin.suite)[package]
        if origin.compiler is None:
            root = None
            folder = _download(cache, package, version, origin.suite)
        else:
            root = folder = _with_compiler(cache, package, version, origin.compiler)
    except HarnessError as error:
        raise BuildError(f"the headers for {release} cannot be had: {error}") from error
    return Headers(release, folder / f"usr/src/{package}", origin.settings, root)


def _download(cache: Cache, package: str, version: str, suite: str) -> Path:
    def build(folder: Path) -> None:
        needed = [name for name in apt.dependencies(cache, package, suite) if _NEEDED.match(name)]
        for name in (package, *needed):
            deb = apt.download(cache, name, version, folder, suite)
            apt.unpack(deb, folder)
            deb.unlink()
        # The only absolute path that the build follows.
        makefile = folder / f"usr/src/{package}/Makefile"
        makefile.write_text(makefile.read_text().replace(f"{_SOURCES}/", "$(dir $(lastword $(MAKEFILE_LIST)))../"))

    return cache.get("headers", digest(source(__file__), package, version), build, keep=4)


def _with_compiler(cache: Cache, package: str, version: str, compiler: str) -> Path:
    suites = apt.sources_of(cache, apt.NEWER, apt.NEWER_BACKPORTS)

    def build(folder: Path) -> None:
        enclosure.make(folder, apt.NEWER, suites, (compiler, "make", package))

    sources = [source(enclosure.__file__), source(bootstrap.__file__)]
    key = digest(sources, suites, package, version, compiler)
    return cache.get("enclosure", key, build, keep=2)
