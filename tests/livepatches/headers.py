# SPDX-License-Identifier: GPL-2.0-or-later
"""The headers of Debian's kernels: where the linux-headers packages install them, or unpacked into the cache."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.vm import apt
from tests.vm.cache import Cache, default_folder, digest, source
from tests.vm.errors import HarnessError

_SOURCES: Final = Path("/usr/src")
_PREFIX: Final = "linux-headers-"
# Debian's kernel team puts the distribution's number into the release of what is no stable Debian's own kernel.
_BACKPORTED: Final = "+deb12-"
_NEEDED: Final = re.compile(r"linux-(?:headers|kbuild)-")


class BuildError(Exception):
    """The modules cannot be built; the text says what is missing or what the compiler said."""


@dataclass(frozen=True, slots=True)
class Headers:
    """What modules for the kernel `release` are built with."""

    release: str
    folder: Path


def find_headers(release: str | None = None) -> Headers:
    """The headers for `release`, or for the newest kernel of the cloud flavour, which the test host runs.

    Those of Debian 12's backports are downloaded where they are not installed.  Raises BuildError on others, and where
    that cannot be.
    """
    if release is not None:
        folder = _SOURCES / f"{_PREFIX}{release}"
        if (folder / "Makefile").exists():
            return Headers(release, folder)
        if _BACKPORTED in release:
            return Headers(release, _download(release))
        raise BuildError(f"{folder} is missing: apt-get install {_PREFIX}{release}")
    folders = [each.parent for each in _SOURCES.glob(f"{_PREFIX}*-cloud-*/Makefile")]
    if not folders:
        raise BuildError(f"no {_PREFIX}*-cloud-* in {_SOURCES}: apt-get install {_PREFIX}cloud-amd64")
    newest = max(folders, key=lambda folder: [int(part) for part in re.findall(r"\d+", folder.name)])
    return Headers(newest.name.removeprefix(_PREFIX), newest)


def _download(release: str) -> Path:
    cache = Cache(default_folder())
    package = f"{_PREFIX}{release}"

    def build(folder: Path) -> None:
        needed = [name for name in apt.dependencies(cache, package, apt.BACKPORTS) if _NEEDED.match(name)]
        for name in (package, *needed):
            deb = apt.download(cache, name, version, folder, apt.BACKPORTS)
            apt.unpack(deb, folder)
            deb.unlink()
        # The only absolute path that the build follows.
        makefile = folder / f"usr/src/{package}/Makefile"
        makefile.write_text(makefile.read_text().replace(f"{_SOURCES}/", "$(dir $(lastword $(MAKEFILE_LIST)))../"))

    try:
        version = apt.candidates(cache, [package], apt.BACKPORTS)[package]
        folder = cache.get("headers", digest(source(__file__), package, version), build, keep=2)
    except HarnessError as error:
        raise BuildError(f"the headers for {release} cannot be had: {error}") from error
    return folder / f"usr/src/{package}"
